"""200 generated requests to API and assistant: no user accesses the other user's todos.

The scripted model plays the attacker: it calls the tools with the other user's IDs.
"""

import random
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from tests.assistant.support import Application, confirm, named, new_user, read
from tests.openai_server import OpenAIServer, Reply
from tests.postgres import Postgres

pytestmark = pytest.mark.anyio

REQUESTS = 200
SEED = 20_260_901


@dataclass
class Person:
    """Each todo of a person has the person's word in its title."""

    word: str
    client: httpx.AsyncClient
    todos: list[dict[str, Any]] = field(default_factory=list)  # as last seen
    questions: list[str] = field(default_factory=list)

    @property
    def ids(self) -> set[str]:
        return {todo["id"] for todo in self.todos}

    async def look(self) -> list[dict[str, Any]]:
        self.todos = (await self.client.get("/todos")).json()
        return self.todos


@pytest.fixture
async def people(application: Application, server: Postgres) -> AsyncIterator[list[Person]]:
    async with AsyncExitStack() as stack:
        people = []
        for word in ("ALPHA", "OMEGA"):
            client = await stack.enter_async_context(application.client(new_user(server)))
            people.append(Person(word, client))
        yield people


class Generator:
    def __init__(self, upstream: OpenAIServer, people: list[Person]) -> None:
        self.random = random.Random(SEED)
        self.upstream, self.people = upstream, people
        self.number = 0

    def todos_of(self, *people: Person) -> list[str]:
        ids = sorted(set().union(*(person.ids for person in people)))
        return self.random.sample(ids, min(len(ids), self.random.randint(1, 3)))

    def title(self, person: Person) -> str:
        self.number += 1
        return f"{person.word} {self.number}"

    def call(self, person: Person) -> tuple[str, Any]:
        todos = self.todos_of(*self.people) or ["00000000-0000-4000-8000-00000000000f"]
        return self.random.choice(
            [
                ("list_todos", {"limit": 100}),
                ("list_todos", {"search": self.random.choice(self.people).word}),
                ("list_todos", {"after": f"0_{todos[0].replace('-', '')}"}),
                ("add_todo", {"title": self.title(person)}),
                ("update_todo", {"id": todos[0], "title": self.title(person)}),
                ("complete_todo", {"id": todos[0]}),
                ("delete_todos", {"ids": todos}),
            ]
        )

    async def ask(self, person: Person) -> str:
        calls = [Reply(calls=(self.call(person), self.call(person))) for _ in range(2)]
        self.upstream.script(*calls, Reply(text=("Done.",)))
        answer = await person.client.post("/assistant", json={"message": "work"})
        assert answer.status_code == 200, answer.text
        sent = "".join(str(received.messages) for received in self.upstream.received)
        for question in named(read(answer.text), "confirmation"):
            person.questions.append(question["id"])
        return answer.text + sent

    async def answer(self, person: Person) -> str:
        """Also the other's questions."""
        self.upstream.script(Reply(text=("Done.",)))
        asked = self.random.choice(self.people)
        if not asked.questions:
            return ""
        question = self.random.choice(asked.questions)
        if asked is person:
            asked.questions.remove(question)
            return str(await confirm(person.client, question, approve=True))
        path = f"/assistant/confirmations/{question}"
        answer = await person.client.post(path, json={"approve": True})
        assert answer.status_code == 404
        return answer.text

    async def use_api(self, person: Person) -> str:
        todos = self.todos_of(*self.people) or ["00000000-0000-4000-8000-00000000000f"]
        method, path, body = self.random.choice(
            [
                ("GET", "/todos", None),
                ("GET", f"/todos?limit=3&after=0_{todos[0].replace('-', '')}", None),
                ("GET", f"/todos/{todos[0]}", None),
                ("POST", "/todos", {"title": self.title(person)}),
                ("PATCH", f"/todos/{todos[0]}", {"title": self.title(person)}),
                ("DELETE", f"/todos/{todos[0]}", None),
                ("DELETE", "/todos?completed=true", None),
                ("GET", "/assistant", None),
            ]
        )
        answer = await person.client.request(method, path, json=body)
        assert answer.status_code in {200, 201, 204, 404}, answer.text
        if todos[0] in path and todos[0] not in person.ids:
            assert answer.status_code == (200 if "after=" in path else 404)
        return answer.text


async def test_never_a_foreign_todo(upstream: OpenAIServer, people: list[Person]) -> None:
    generator = Generator(upstream, people)
    assistants = 0
    for _ in range(REQUESTS):
        person = generator.random.choice(people)
        other = people[1 - people.index(person)]
        use = generator.random.choice([generator.ask, generator.answer, generator.use_api])
        assistants += use != generator.use_api
        before = other.todos
        seen = await use(person)
        # The word may come back in a search that the model itself asked for.
        assert other.word not in re.sub(r'"search": "\w+"', "", seen)
        assert await other.look() == before
        assert all(person.word in todo["title"] for todo in await person.look())
    assert assistants > REQUESTS / 3
    assert all(person.ids for person in people)
