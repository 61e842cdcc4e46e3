"""Users of the API, for tests."""

from dataclasses import dataclass
from uuid import UUID, uuid4

from httpx import AsyncClient

ORIGIN = "http://todo.test:8080"
COOKIE = "todo_8080_session"
PASSWORD = "not-a-secret passphrase"


@dataclass(frozen=True)
class Member:
    id: UUID
    email: str
    token: str

    @property
    def bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}"}

    @property
    def browser(self) -> dict[str, str]:
        return {"Cookie": f"{COOKIE}={self.token}", "Origin": ORIGIN}


def new_email() -> str:
    return f"{uuid4().hex}@todo.test"


def credentials(email: str, password: str = PASSWORD) -> dict[str, str]:
    return {"email": email, "password": password}


async def sign_up(client: AsyncClient, email: str | None = None) -> Member:
    answer = await client.post("/users", json=credentials(email or new_email()))
    assert answer.status_code == 201, answer.text
    session = answer.json()
    return Member(UUID(session["user"]["id"]), session["user"]["email"], session["token"])
