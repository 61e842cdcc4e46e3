"""Rate limits, counted in Postgres for all replicas together.

A leaky bucket holds `most` units and drains within `seconds`. A full bucket refuses attempts. Each
unit that overflows doubles the waiting time, up to the time that this unit takes to drain.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from app.core.connections import Connection
from app.core.problems import ProblemError


@dataclass(frozen=True)
class Bucket:
    """A limit. `name` says what is counted and for whom; only its digest is stored."""

    name: str
    most: int
    seconds: int

    @property
    def key(self) -> str:
        return sha256(self.name.encode()).hexdigest()

    @property
    def each(self) -> float:
        """Returns the seconds until one unit has drained."""
        return self.seconds / self.most


_FILL = "greatest(kept.empty_at, now()) + (excluded.empty_at - now())"
_UNIT = "(extract(epoch FROM excluded.empty_at - now()) / %(units)s)::float8"
_OVERFLOW = f"(extract(epoch FROM {_FILL} - now())::float8 - %(seconds)s + {_UNIT})"
_EXPONENT = f"greatest(-9, least({_OVERFLOW} / {_UNIT}, 30))"

# A statement begins with this and reads `wait`. It locks only the rows, always in the same order: a
# concurrent attempt waits for the first one and then sees its count. The second attempt's now() may
# be earlier, so `free_at` stays in the past while a bucket is not full. `seconds` is 0 if all
# buckets counted the attempt, otherwise the time until the next attempt.
TAKE = f"""
WITH asked AS (
    SELECT * FROM unnest(%(keys)s::text[], %(each)s::float8[]) AS asked (key, each)
), counted AS (
    INSERT INTO limits AS kept (key, empty_at, free_at)
    SELECT key, now() + make_interval(secs => each * %(units)s), 'epoch' FROM asked
    WHERE NOT EXISTS (SELECT FROM limits JOIN asked USING (key) WHERE free_at > now())
    ORDER BY key
    ON CONFLICT (key) DO UPDATE SET empty_at = {_FILL}, free_at = CASE WHEN {_OVERFLOW} > 0
        THEN now() + make_interval(secs => least(power(2, {_EXPONENT}), {_OVERFLOW}))
        ELSE kept.free_at END
    WHERE kept.free_at <= now()
    RETURNING key
), forgotten AS (
    DELETE FROM limits WHERE key IN (
        SELECT key FROM limits
        WHERE empty_at <= now() AND free_at <= now() AND key <> ALL(%(keys)s)
        LIMIT 100 FOR UPDATE SKIP LOCKED
    )
), wait AS (
    SELECT CASE WHEN (SELECT count(*) FROM counted) = cardinality(%(keys)s) THEN 0
        ELSE greatest(1, ceil(extract(epoch FROM max(free_at) - now())))::int END AS seconds
    FROM limits JOIN asked USING (key)
)
"""  # noqa: S608 - constants

_GIVE_BACK = """
WITH known AS (SELECT key FROM limits WHERE key = ANY(%(keys)s) ORDER BY key FOR UPDATE)
UPDATE limits AS kept SET
    empty_at = empty_at - make_interval(secs => each * %(units)s), free_at = 'epoch'
FROM known JOIN unnest(%(keys)s::text[], %(each)s::float8[]) AS asked (key, each) USING (key)
WHERE kept.key = known.key
"""


def arguments(buckets: Sequence[Bucket], units: int = 1) -> dict[str, Any]:
    """Returns the parameters of TAKE; all buckets must have the same `seconds`."""
    return {
        "keys": [bucket.key for bucket in buckets],
        "each": [bucket.each for bucket in buckets],
        "seconds": buckets[0].seconds,
        "units": units,
    }


async def take(conn: Connection, bucket: Bucket, units: int = 1) -> int:
    """Counts an attempt and returns 0, or returns the seconds to wait and counts nothing."""
    statement = f"{TAKE} SELECT seconds FROM wait"  # noqa: S608 - constants
    cursor = await conn.execute(statement, arguments([bucket], units))
    row = await cursor.fetchone()
    assert row is not None  # noqa: S101 - `wait` is one row
    return int(row["seconds"])


async def give_back(conn: Connection, buckets: Sequence[Bucket]) -> None:
    """Reverts a count and the delay that it caused."""
    await conn.execute(_GIVE_BACK, arguments(buckets))


def refusal(code: str, what: str, seconds: int) -> ProblemError:
    return ProblemError(
        429, code, f"{what}; try again {describe_wait(seconds)}.", {"Retry-After": str(seconds)}
    )


def describe_wait(seconds: int) -> str:
    return f"in {seconds} s" if seconds < 120 else f"in {math.ceil(seconds / 60)} minutes"
