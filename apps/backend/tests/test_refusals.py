"""Each database error has a code for clients, a cause in the health answer and a log line."""

import pytest

from tests.conftest import Serve
from tests.refusing import refusing
from tests.waiting import known

pytestmark = pytest.mark.anyio

QUOTA = "Your account or project has exceeded the {} quota. Upgrade your plan to increase limits."


@pytest.mark.parametrize(
    ("text", "cause", "code", "seconds"),
    [
        (QUOTA.format("compute time"), "quota exceeded", "database-quota-exceeded", 30),
        (QUOTA.format("data transfer"), "quota exceeded", "database-quota-exceeded", 30),
        (
            "password authentication failed for user 'todo'",
            "wrong password",
            "database-refused",
            30,
        ),
        (
            "The requested endpoint could not be found, or you don't have access to it",
            "endpoint refused",
            "database-refused",
            30,
        ),
        ('database "todo" does not exist', "no such database", "database-refused", 30),
        ("Couldn't connect to compute node", "waking up", "database-unavailable", 2),
        ("sorry, too many clients already", "too many connections", "database-busy", 2),
    ],
)
async def test_a_refusal_is_told_apart(  # noqa: PLR0913, PLR0917 - the columns of a table
    text: str, cause: str, code: str, seconds: int, serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async with refusing(text) as url, serve(url) as client:
        health = await known(client, 2)
        assert (health["database"], health["database_cause"]) == ("unavailable", cause)
        answer = await client.get("/todos")
        assert answer.status_code == 503
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["code"] == code
        assert answer.headers["retry-after"] == str(seconds)
        assert text not in answer.text  # the server's words are for the log
    lines = [record for record in caplog.records if record.name == "app.core.db"]
    assert len(lines) == 1  # once, however often somebody knocks
    assert text in lines[0].getMessage()
    assert vars(lines[0])["fields"] == {"cause": cause}
