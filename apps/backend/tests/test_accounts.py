"""Sign-up, sign-in, sign-out and the deletion of accounts."""

from datetime import UTC, datetime, timedelta
from uuid import UUID

import psycopg
import pytest
from httpx import AsyncClient, Response

from app import migrate
from app.main import create_app
from tests.accounts import PASSWORD, credentials, new_email, sign_up
from tests.conftest import Serve, bearer, client_of, settings
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio


async def test_signing_up_is_signing_in(anonymous: AsyncClient) -> None:
    email = new_email()
    answer = await anonymous.post("/users", json=credentials(email))
    session = answer.json()
    assert (answer.status_code, answer.headers["location"]) == (201, "/api/v1/me")
    assert set(session) == {"token", "token_type", "expires_at", "user"}
    assert session["token_type"] == "bearer"
    lifetime = datetime.fromisoformat(session["expires_at"]) - datetime.now(UTC)
    assert timedelta(days=7) - lifetime < timedelta(minutes=1)
    user = session["user"]
    assert set(user) == {"id", "email", "created_at"}
    assert UUID(user["id"])
    assert user["email"] == email
    assert datetime.now(UTC) - datetime.fromisoformat(user["created_at"]) < timedelta(minutes=1)
    me = await anonymous.get("/me", headers={"Authorization": f"Bearer {session['token']}"})
    assert (me.status_code, me.json()) == (200, user)


async def test_signing_in_gives_another_token(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    answer = await anonymous.post("/session", json=credentials(member.email))
    assert answer.status_code == 200
    session = answer.json()
    assert session["token"] != member.token
    assert session["user"]["id"] == str(member.id)
    for token in (session["token"], member.token):
        me = await anonymous.get("/me", headers={"Authorization": f"bearer {token}"})
        assert me.json() == session["user"]


async def test_an_address_has_one_account_however_it_is_written(anonymous: AsyncClient) -> None:
    email = new_email()
    member = await sign_up(anonymous, f" {email.upper()}\n")
    assert member.email == email
    again = await anonymous.post("/users", json=credentials(email.title(), "another password"))
    assert (again.status_code, again.json()["code"]) == (409, "email-taken")
    assert "set-cookie" not in again.headers
    answer = await anonymous.post("/session", json=credentials(f"\t{email.upper()} "))
    assert answer.json()["user"]["id"] == str(member.id)


@pytest.mark.parametrize("email", ["ÄÖÜ-{}@Straße.test", "İ-{}@todo.test", "{}@[IPv6:2001:DB8::1]"])
async def test_addresses_of_any_alphabet(anonymous: AsyncClient, email: str) -> None:
    email = email.format(new_email().partition("@")[0])
    member = await sign_up(anonymous, email)
    assert member.email == email.lower()
    assert (await anonymous.post("/session", json=credentials(email))).status_code == 200


@pytest.mark.parametrize(
    "email",
    ["", "a@", "@a", "ab", "a@b@c", "a b@c", "a@b\tc", "a\0@b", "a\u2028b@c", "x" * 253 + "@y",
     None, 5, ["a@b"]],
)  # fmt: skip
async def test_an_address_that_is_refused(anonymous: AsyncClient, email: object) -> None:
    for path in ("/users", "/session"):
        answer = await anonymous.post(path, json={"email": email, "password": PASSWORD})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/email"]


@pytest.mark.parametrize(
    "password", ["", "7 chars", "x" * 129, "with a \0 inside", None, 12345678, ["x" * 8]]
)
async def test_a_password_that_is_refused_is_not_repeated(
    anonymous: AsyncClient, password: object
) -> None:
    for path in ("/users", "/session"):
        answer = await anonymous.post(path, json={"email": "a@b", "password": password})
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.json()["errors"]] == ["/password"]
        if password:
            assert str(password) not in answer.text


@pytest.mark.parametrize(
    "password", ["8 chars.", "x" * 128, "  spaces count  ", "пароль密码🔑🔑", "e\u0301" * 5]
)
async def test_a_password_is_taken_as_it_is(anonymous: AsyncClient, password: str) -> None:
    email = new_email()
    answer = await anonymous.post("/users", json=credentials(email, password))
    assert answer.status_code == 201
    answer = await anonymous.post("/session", json=credentials(email, password))
    assert answer.status_code == 200
    for other in (password[:-1] + "?", "\u00e9" * 8):
        answer = await anonymous.post("/session", json=credentials(email, other))
        assert answer.status_code == 401


async def test_a_misspelt_field_is_named(anonymous: AsyncClient) -> None:
    body = credentials(new_email()) | {"name": "x"}
    answer = await anonymous.post("/users", json=body)
    assert answer.json()["errors"][0]["pointer"] == "/name"


async def test_passwords_are_kept_as_argon2id_alone(
    server: Postgres, anonymous: AsyncClient
) -> None:
    first, second = await sign_up(anonymous), await sign_up(anonymous)
    with psycopg.connect(server.url()) as conn:
        hashes = conn.execute(
            "SELECT password_hash FROM users WHERE id = ANY(%s)", [[first.id, second.id]]
        ).fetchall()
    assert len(set(hashes)) == 2
    for (stored,) in hashes:
        assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")


async def test_the_local_user_signs_in_with_no_password(anonymous: AsyncClient) -> None:
    for password in (PASSWORD, "password", "x" * 8):
        answer = await anonymous.post("/session", json=credentials("local@todo.invalid", password))
        assert (answer.status_code, answer.json()["code"]) == (401, "wrong-credentials")


async def test_signing_out_ends_this_token_alone(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    other = (await anonymous.post("/session", json=credentials(member.email))).json()["token"]
    for _ in range(2):  # the second time there is nothing left to end
        answer = await anonymous.delete("/session", headers=member.bearer)
        assert (answer.status_code, answer.content) == (204, b"")
        assert (await anonymous.get("/me", headers=member.bearer)).status_code == 401
    me = await anonymous.get("/me", headers={"Authorization": f"Bearer {other}"})
    assert me.status_code == 200


@pytest.mark.parametrize("headers", [{}, {"Authorization": "Bearer nonsense"}])
async def test_signing_out_without_a_session(
    anonymous: AsyncClient, headers: dict[str, str]
) -> None:
    assert (await anonymous.delete("/session", headers=headers)).status_code == 204


async def test_an_expired_revocation_is_forgotten(server: Postgres, anonymous: AsyncClient) -> None:
    first, second = await sign_up(anonymous), await sign_up(anonymous)
    await anonymous.delete("/session", headers=first.bearer)
    server.execute("UPDATE revoked_tokens SET expires_at = now() - interval '1 second'")
    await anonymous.delete("/session", headers=second.bearer)
    with psycopg.connect(server.url()) as conn:
        left = conn.execute("SELECT user_id FROM revoked_tokens").fetchall()
    assert left == [(second.id,)]


async def test_an_account_goes_with_everything_that_is_its_own(
    server: Postgres, anonymous: AsyncClient
) -> None:
    member, other = await sign_up(anonymous), await sign_up(anonymous)
    wrong = credentials(member.email, "wrong password")
    assert (await anonymous.post("/session", json=wrong)).status_code == 401
    for headers in (member.bearer, other.bearer):
        await anonymous.post("/todos", json={"title": "x"}, headers=headers)
        key = {"Idempotency-Key": "one"}
        await anonymous.post("/todos", json={"title": "y"}, headers=headers | key)
    second = (await anonymous.post("/session", json=credentials(other.email))).json()["token"]
    await anonymous.delete("/session", headers={"Authorization": f"Bearer {second}"})
    answer = await anonymous.request(
        "DELETE", "/me", headers=member.bearer, json={"password": PASSWORD}
    )
    assert (answer.status_code, answer.content) == (204, b"")
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 401
    answer = await anonymous.post("/session", json=credentials(member.email))
    assert answer.json()["code"] == "wrong-credentials"
    assert len((await anonymous.get("/todos", headers=other.bearer)).json()) == 2
    with psycopg.connect(server.url()) as conn:
        tables = conn.execute(
            "SELECT table_name FROM information_schema.columns WHERE column_name = 'user_id'"
            " AND table_schema = 'public'"
        ).fetchall()
        assert len(tables) >= 3
        for (table,) in tables:
            row = conn.execute(
                f"SELECT count(*) FROM {table} WHERE user_id = %s".encode(), [member.id]
            ).fetchone()
            assert row == (0,), table
    assert (await sign_up(anonymous, member.email)).id != member.id


async def test_a_todo_for_an_account_that_is_just_deleted(
    server: Postgres, client: AsyncClient
) -> None:
    """The account was there when the request began, and is gone when the row is written."""
    member = await sign_up(client)
    server.execute(
        "CREATE FUNCTION delete_owner() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM users WHERE id = NEW.user_id; RETURN NEW; END $$"
    )
    server.execute(
        "CREATE TRIGGER delete_owner BEFORE INSERT ON todos FOR EACH ROW"
        f" WHEN (NEW.user_id = '{member.id}') EXECUTE FUNCTION delete_owner()"
    )
    try:
        answer = await client.post("/todos", json={"title": "x"}, headers=member.bearer)
    finally:
        server.execute("DROP TRIGGER delete_owner ON todos")
        server.execute("DROP FUNCTION delete_owner")
    assert (answer.status_code, answer.json()["code"]) == (401, "not-signed-in")
    assert answer.headers["www-authenticate"] == "Bearer"


async def test_the_first_account_takes_over_the_todos_from_before(
    server: Postgres, serve: Serve
) -> None:
    url = server.create_database("adopted")
    migrate.run(url)
    async with serve(url) as client:
        for title in ("old", "older"):
            assert (await client.post("/todos", json={"title": title})).status_code == 201
        before = (await client.get("/todos")).json()
        first, second = await sign_up(client), await sign_up(client)
        assert (await client.get("/todos", headers=first.bearer)).json() == before
        assert (await client.get("/todos", headers=second.bearer)).json() == []
        assert (await client.get("/todos")).json() == []
        # The release before goes on writing as the local user until the last pod is replaced.
        assert (await client.post("/todos", json={"title": "late"})).status_code == 201
        third = await sign_up(client)
        assert (await client.get("/todos", headers=third.bearer)).json() == []
        assert (await client.get("/me", headers=bearer(first.id))).status_code == 200


async def test_a_new_password_ends_all_sessions_but_the_callers(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)
    other = (await anonymous.post("/session", json=credentials(member.email))).json()["token"]
    change = {"password": "not the password", "new_password": "not-a-secret either"}
    answer = await anonymous.put("/me/password", json=change, headers=member.bearer)
    assert (answer.status_code, answer.json()["code"]) == (403, "wrong-password")
    change |= {"password": PASSWORD}
    answer = await anonymous.put("/me/password", json=change, headers=member.bearer)
    assert answer.status_code == 200
    for token, status in ((member.token, 401), (other, 401), (answer.json()["token"], 200)):
        me = await anonymous.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == status
        todos = await anonymous.get("/todos", headers={"Authorization": f"Bearer {token}"})
        assert todos.status_code == status
    for password, status in ((PASSWORD, 401), (change["new_password"], 200)):
        signed_in = await anonymous.post("/session", json=credentials(member.email, password))
        assert signed_in.status_code == status


async def test_signing_out_everywhere_ends_all_sessions(anonymous: AsyncClient) -> None:
    member, bystander = await sign_up(anonymous), await sign_up(anonymous)
    other = (await anonymous.post("/session", json=credentials(member.email))).json()["token"]
    bearer = {"Authorization": f"Bearer {other}"}
    # A session that has ended ends no others.
    await anonymous.delete("/session", headers=bearer)
    await anonymous.delete("/session?everywhere=true", headers=bearer)
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 200
    other = (await anonymous.post("/session", json=credentials(member.email))).json()["token"]
    # Nor does a page that was made for another user.
    other_page = {"X-Todo-User": str(bystander.id)} | member.bearer
    refused = await anonymous.delete("/session?everywhere=true", headers=other_page)
    assert (refused.status_code, refused.json()["code"]) == (409, "other-user")
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 200
    answer = await anonymous.delete("/session?everywhere=true", headers=member.bearer)
    assert answer.status_code == 204
    for token in (member.token, other):
        me = await anonymous.get("/me", headers={"Authorization": f"Bearer {token}"})
        assert me.status_code == 401
    assert (await anonymous.get("/me", headers=bystander.bearer)).status_code == 200
    again = (await anonymous.post("/session", json=credentials(member.email))).json()["token"]
    me = await anonymous.get("/me", headers={"Authorization": f"Bearer {again}"})
    assert me.status_code == 200


async def test_deleting_an_account_takes_its_password(anonymous: AsyncClient) -> None:
    member = await sign_up(anonymous)

    async def delete(body: dict[str, str] | None) -> Response:
        return await anonymous.request("DELETE", "/me", headers=member.bearer, json=body)

    assert (await delete(None)).status_code == 422
    # Whoever has the session alone may not guess on.
    for _ in range(5):
        wrong = await delete({"password": "not the password"})
        assert (wrong.status_code, wrong.json()["code"]) == (403, "wrong-password")
    assert (await delete({"password": PASSWORD})).json()["code"] == "too-many-attempts"
    assert (await anonymous.get("/me", headers=member.bearer)).status_code == 200


async def test_sign_ups_are_limited_for_each_client(server: Postgres) -> None:
    app = create_app(settings(server.url(), sign_ups_per_hour=3))
    server.execute("TRUNCATE limits")
    async with app.router.lifespan_context(app), client_of(app) as client:
        member = await sign_up(client)
        for _ in range(3):
            taken = await client.post("/users", json=credentials(member.email))
            assert taken.status_code == 409  # no account is made, so it does not count
        for _ in range(2):
            await sign_up(client)
        answer = await client.post("/users", json=credentials(new_email()))
        assert (answer.status_code, answer.json()["code"]) == (429, "too-many-sign-ups")
        assert 0 < int(answer.headers["retry-after"]) <= 1200
        elsewhere = {"X-Forwarded-For": "8.8.4.4"}
        answer = await client.post("/users", json=credentials(new_email()), headers=elsewhere)
        assert answer.status_code == 201
