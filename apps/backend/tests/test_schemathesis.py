"""Generated requests to all operations of the OpenAPI document, with all checks of schemathesis.

They run against the real server over HTTP, with and without an account. The seed is fixed and the
examples are few, so a failure is reproducible.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from app import migrate
from tests.conftest import AUTH_SECRET
from tests.openai_server import OpenAIServer, by_keywords
from tests.postgres import Postgres
from tests.processes import running, wait_until_ready

EXAMPLES = 10
SEED = 4

FOLDER = Path(__file__).parent
PROGRAM = Path(sys.executable).with_name("schemathesis")


@pytest.mark.timeout(180)
@pytest.mark.parametrize("signed_in", ["yes", "no"])
def test_no_generated_request_finds_fault(server: Postgres, tmp_path: Path, signed_in: str) -> None:
    url = server.create_database(f"schemathesis_{signed_in}")
    migrate.run(url)
    with (
        OpenAIServer(by_keywords) as upstream,
        running(
            DATABASE_URL=url, AUTH_SECRET=AUTH_SECRET, LOG_LEVEL="ERROR",
            OPENAI_API_KEY="not-a-secret-key", OPENAI_BASE_URL=upstream.url,
        ) as (_, api),
    ):  # fmt: skip
        wait_until_ready(api)
        # Not measured: what counts is the server's side, and that is a process of its own.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}
        environment = {
            "PYTHONPATH": str(FOLDER.parent),
            "SCHEMATHESIS_API": api,
            "SCHEMATHESIS_HOOKS": "tests.schemathesis_hooks",
            "SCHEMATHESIS_SIGNED_IN": signed_in,
        }
        run = subprocess.run(
            [
                PROGRAM, "--config-file", FOLDER / "schemathesis.toml", "run",
                f"{api}/openapi.json", "--checks", "all", "--seed", str(SEED),
                "--max-examples", str(EXAMPLES), "--generation-database", "none",
                "--request-timeout", "600", "--no-color", "--output-truncate", "false",
            ],
            env=inherited | environment, cwd=tmp_path, stdin=subprocess.DEVNULL,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
    assert run.returncode == 0, run.stdout + run.stderr
    # A run that found no operation, or never got past sign-in, would be green as well.
    assert "Tested:" in run.stdout
    if signed_in == "yes":
        assert "WARNINGS" not in run.stdout, run.stdout
