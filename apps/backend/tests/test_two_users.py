"""200 generated requests of two users: neither sees or changes the other's todos.

A plain dictionary holds each user's expected todos; after every request the API must agree with it.
The seed is fixed, so a failure is reproducible; its message names the request.
"""

from dataclasses import dataclass, field
from random import Random
from typing import Any
from uuid import uuid4

import pytest
from httpx import AsyncClient, Response

from tests.accounts import Member, sign_up

pytestmark = pytest.mark.anyio

REQUESTS = 200


@dataclass
class User:
    name: str
    member: Member
    todos: dict[str, dict[str, Any]] = field(default_factory=dict)
    made: list[str] = field(default_factory=list)  # also those that are gone
    keys: dict[str, dict[str, Any]] = field(default_factory=dict)

    def listed(self) -> list[dict[str, Any]]:
        return sorted(self.todos.values(), key=lambda todo: todo["order"])  # then by age


class Play:
    def __init__(self, seed: int, client: AsyncClient, users: tuple[User, User]) -> None:
        self.random = Random(seed)
        self.client = client
        self.users = users

    async def turn(self) -> str:
        user, other = self.random.sample(self.users, 2)
        headers = self.random.choice([user.member.bearer, user.member.browser])
        move = self.random.choices(
            [self.make, self.change, self.look, self.delete, self.list, self.clear],
            weights=[8, 6, 4, 3, 4, 1],
        )[0]
        said = f"{user.name} {await move(user, other, headers)}"
        for one in self.users:
            everything = await self.client.get("/todos", headers=one.member.bearer)
            assert everything.json() == one.listed(), f"{one.name} after: {said}"
        return said

    def pick(self, user: User, other: User) -> str:
        """Mostly a todo that there is, of either; sometimes one that was or never was."""
        known = user.made + other.made + [str(uuid4())]
        return self.random.choice(known)

    async def make(self, user: User, other: User, headers: dict[str, str]) -> str:
        body: dict[str, Any] = {"title": f"{user.name}'s {self.random.randrange(10**6)}"}
        if self.random.random() < 0.3:
            body["order"] = self.random.randint(-5, 5)
        key = f"key-{self.random.randrange(30)}" if self.random.random() < 0.5 else None
        if key is not None:
            headers = headers | {"Idempotency-Key": key}
        answer = await self.client.post("/todos", json=body, headers=headers)
        if key in user.keys:
            assert answer.json()["code"] == "idempotency-key-reused"
            return f"reused {key}"
        todo = answer.json()
        assert answer.status_code == 201
        assert todo["title"] == body["title"]
        assert todo["id"] not in user.made + other.made
        user.todos[todo["id"]] = todo
        user.made.append(todo["id"])
        if key is not None:
            user.keys[key] = todo
        return f"made {todo}"

    async def change(self, user: User, other: User, headers: dict[str, str]) -> str:
        todo = self.pick(user, other)
        change: dict[str, Any] = self.random.choice(
            [{"title": f"changed by {user.name}"}, {"completed": True}, {"order": 3}, {}]
        )
        answer = await self.client.patch(f"/todos/{todo}", json=change, headers=headers)
        if todo in user.todos:
            user.todos[todo] |= change | {"version": answer.json()["version"]}
        self.check(user, todo, answer, 200)
        return f"changed {todo}: {change}"

    async def look(self, user: User, other: User, headers: dict[str, str]) -> str:
        todo = self.pick(user, other)
        answer = await self.client.get(f"/todos/{todo}", headers=headers)
        self.check(user, todo, answer, 200)
        return f"looked at {todo}"

    async def delete(self, user: User, other: User, headers: dict[str, str]) -> str:
        todo = self.pick(user, other)
        answer = await self.client.delete(f"/todos/{todo}", headers=headers)
        self.check(user, todo, answer, 204)
        user.todos.pop(todo, None)
        return f"deleted {todo}"

    async def list(self, user: User, _: User, headers: dict[str, str]) -> str:
        pages, url = [], f"/todos?limit={self.random.randint(1, 4)}"
        while url:
            answer = await self.client.get(url, headers=headers)
            pages += answer.json()
            url = answer.links.get("next", {}).get("url", "")
        assert pages == user.listed()
        return "listed"

    async def clear(self, user: User, _: User, headers: dict[str, str]) -> str:
        answer = await self.client.delete("/todos?completed=true", headers=headers)
        assert answer.status_code == 204
        user.todos = {name: todo for name, todo in user.todos.items() if not todo["completed"]}
        return "cleared"

    @staticmethod
    def check(user: User, todo: str, answer: Response, good: int) -> None:
        if todo not in user.todos:
            assert (answer.status_code, answer.json()["code"]) == (404, "todo-not-found")
            return
        assert answer.status_code == good
        if answer.content:
            assert answer.json() == user.todos[todo]


async def test_nobody_reaches_anothers_todos(anonymous: AsyncClient) -> None:
    users = (
        User("Ada", await sign_up(anonymous)),
        User("Bob", await sign_up(anonymous)),
    )
    play = Play(20_261_121, anonymous, users)
    history = [await play.turn() for _ in range(REQUESTS)]
    # It was a real game: each kind of move was made, by each user, on things of each.
    for user in users:
        for move in ("made", "reused", "changed", "looked", "deleted", "listed", "cleared"):
            assert any(said.startswith(f"{user.name} {move}") for said in history), move
        assert len(user.made) > 20
