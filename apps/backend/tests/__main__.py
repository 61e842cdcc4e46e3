"""Runs the whole suite in the test image: `python3 -m tests`.

Format, lint and types count as one test each. The last line is for programs.
"""

import subprocess
import sys

import pytest

CHECKS = (
    ("format", ["ruff", "format", "--check", "--quiet", "--diff", "."]),
    ("lint", ["ruff", "check", "--quiet", "."]),
    ("types", ["mypy"]),
)
# Tests wait half of the time, so two workers run, each with its own servers and ports.
# An idle worker takes tests from the other.
WORKERS = ("--numprocesses=2", "--dist=worksteal")


class Count:
    def __init__(self) -> None:
        self.passed = self.failed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.failed:
            self.failed += 1
        elif report.when == "call" and report.passed:
            self.passed += 1


def main() -> int:
    count = Count()
    for name, command in CHECKS:
        good = subprocess.run(command, check=False).returncode == 0
        print(f"{name}: ok" if good else f"FAILED {name}", flush=True)
        count.passed += good
        count.failed += not good
    code = pytest.main(["--cov", "--cov-report=term", *WORKERS], plugins=[count])
    # Too little coverage, no test found or an interruption fail without a failed test.
    if code != pytest.ExitCode.OK and count.failed == 0:
        count.failed = 1
    sys.stderr.flush()
    print(f"{count.passed} passed, {count.failed} failed", flush=True)
    return 1 if count.failed else 0


if __name__ == "__main__":
    sys.exit(main())
