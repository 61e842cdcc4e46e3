"""The clock of all time limits: a test fails only for its own time."""

import time

import pytest

from tests.waiting import Clock, clock, speed, takes_at_most, wait_until


@pytest.mark.parametrize(
    ("running", "share"), [(0, 1), (1, 1), (2, 1), (3, 1), (5, 0.5), (9, 0.25), (41, 0.05)]
)
def test_a_busy_machine_is_slow(running: int, share: float) -> None:
    assert speed(f"1.31 3.02 3.44 {running}/489 691\n", 2) == share


def test_a_block_that_takes_too_long_fails() -> None:
    end = clock.seconds + 0.15
    with pytest.raises(AssertionError, match=r"not within 0\.1 s"), takes_at_most(0.1):
        wait_until(lambda: clock.seconds > end)


def test_what_never_happens_fails() -> None:
    with pytest.raises(AssertionError, match=r"not within 0\.1 s"):
        wait_until(lambda: False, 0.1)


def test_time_that_others_had_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Clock, "_speed", staticmethod(lambda: 0.0))
    time.sleep(0.1)  # until the look that began before
    with takes_at_most(0.1):
        time.sleep(0.5)
