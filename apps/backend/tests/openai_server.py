"""A server with OpenAI's chat completions over HTTP and scripted answers.

Tests script it. On its own, `python3 -m tests.openai_server --port 9901` gives fixed answers to
keywords (see `by_keywords`). Needs only Python 3.10.
"""

import argparse
import json
import re
import select
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

HANG_SECONDS = 60.0
PATH = "/v1/chat/completions"
RESUME = "Your answer was cut off."  # the application's request to continue


@dataclass
class Reply:
    """One answer: text and calls in pieces, or a failure."""

    text: tuple[str, ...] = ()
    calls: tuple[tuple[str, Any], ...] = ()  # name, and arguments as JSON text or object
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: str | None = None  # instead of a stream
    raw: tuple[str, ...] = ()  # data of events before the others, as it is
    split: int = 5  # characters of the arguments in one piece
    load: float = 0.0  # seconds before the answer begins
    pause: float = 0.0  # seconds before each event
    hang: str = ""  # "headers": says nothing at all; "stream": falls silent after the text
    cut: bool = False  # closes the connection after the text
    finish: str | None = None  # finish_reason; otherwise what fits; "": none
    tokens: int | None = 30  # usage; None: tells none


@dataclass
class Received:
    """A received request."""

    body: dict[str, Any]
    authorization: str
    left: threading.Event = field(default_factory=threading.Event)  # the client went before the end

    @property
    def messages(self) -> list[dict[str, Any]]:
        messages: list[dict[str, Any]] = self.body["messages"]
        return messages


Brain = Callable[[dict[str, Any]], Reply]


class OpenAIServer:
    """Serves on loopback while the context is entered."""

    def __init__(self, brain: Brain, host: str = "127.0.0.1", port: int = 0) -> None:
        self.brain = brain
        self.elsewhere = Reply(status=404, body="{}")  # the answer at every other path
        self.received: list[Received] = []
        handler = type("Handler", (_Handler,), {"owner": self})
        self._http = ThreadingHTTPServer((host, port), handler)
        self._http.daemon_threads = True
        self._http.block_on_close = False
        self.url = f"http://{host}:{self._http.server_address[1]}/v1"

    def script(self, *replies: Reply) -> None:
        """Answers the next requests with these, one each, and refuses later ones."""
        self.received.clear()
        left = iter(replies)
        self.brain = lambda _: next(left, Reply(status=418, body="the script has ended"))

    def serve(self) -> None:
        self._http.serve_forever(poll_interval=0.05)

    def __enter__(self) -> "OpenAIServer":
        threading.Thread(target=self.serve, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # many small writes: each would wait for the one before
    owner: OpenAIServer

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        received = Received(body, self.headers.get("Authorization", ""))
        self.owner.received.append(received)
        reply = self.owner.brain(body) if self.path == PATH else self.owner.elsewhere
        try:
            self._send(reply)
        except OSError:
            received.left.set()
            self.close_connection = True

    def _send(self, reply: Reply) -> None:
        time.sleep(reply.load)
        if reply.hang == "headers":
            self._wait_until_client_leaves()
        if reply.body is not None:
            body = reply.body.encode()
            headers = {"Content-Type": "application/json", "Content-Length": str(len(body))}
            self._begin(reply.status, headers | reply.headers)
            self.wfile.write(body)
            return
        self._begin(200, {"Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"})
        for data in (*reply.raw, *(json.dumps(chunk) for chunk in _text_chunks(reply))):
            self._event(data, reply.pause)
        if reply.hang == "stream":
            self._wait_until_client_leaves()
        if reply.cut:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        for chunk in _last_chunks(reply):
            self._event(json.dumps(chunk), reply.pause)
        self._event("[DONE]", 0)
        self.wfile.write(b"0\r\n\r\n")

    def _begin(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()

    def _event(self, data: str, pause: float) -> None:
        time.sleep(pause)
        event = f"data: {data}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")

    def _wait_until_client_leaves(self) -> None:
        select.select([self.connection], [], [], HANG_SECONDS)
        raise ConnectionAbortedError

    def log_message(self, *_: object) -> None:
        pass


def _text_chunks(reply: Reply) -> Iterator[dict[str, Any]]:
    yield _chunk({"role": "assistant", "content": ""})
    for piece in reply.text:
        yield _chunk({"content": piece})


def _last_chunks(reply: Reply) -> Iterator[dict[str, Any]]:
    """Yields the calls in pieces like OpenAI, then finish reason and usage."""
    for index, (name, arguments) in enumerate(reply.calls):
        text = arguments if isinstance(arguments, str) else json.dumps(arguments)
        first = {"index": index, "id": f"call_{index}", "type": "function"}
        yield _chunk({"tool_calls": [first | {"function": {"name": name, "arguments": ""}}]})
        for start in range(0, len(text), reply.split):
            piece = {"arguments": text[start : start + reply.split]}
            yield _chunk({"tool_calls": [{"index": index, "function": piece}]})
    finish = ("tool_calls" if reply.calls else "stop") if reply.finish is None else reply.finish
    if finish:
        yield _chunk({}, finish)
    if reply.tokens is not None:
        usage = {"prompt_tokens": 0, "completion_tokens": reply.tokens}
        yield _chunk(None) | {"usage": usage | {"total_tokens": reply.tokens}}


def _chunk(delta: dict[str, Any] | None, finish: str | None = None) -> dict[str, Any]:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 0,
        "model": "scripted",
        "choices": choices,
    }


def by_keywords(body: dict[str, Any]) -> Reply:
    """Answers the user's last message like a model.

    add A [and B] · list · complete A · rename A to B · delete A | delete all | delete completed:
    use tools. fail 401 | 429 | 500, hang, cut, garbage: failures. slow: text in slow motion.
    Anything else gets a text answer.
    """
    messages = body["messages"]
    last = max(
        i
        for i, message in enumerate(messages)
        if message["role"] == "user" and not message["content"].startswith(RESUME)
    )
    asked = messages[last]["content"].strip().rstrip(".!")
    word, _, rest = asked.partition(" ")
    results = _results(messages[last:])
    if word.lower() == "fail":
        return Reply(status=int(rest), body=json.dumps({"error": {"message": f"fail {rest}"}}))
    if word.lower() in _WORK:
        return _WORK[word.lower()](word.lower(), rest, results)
    return _TROUBLES.get(word.lower()) or _say(
        f"You said: {asked}. I only help with your todo list."
    )


# Names of the tools that were called since the user spoke, and what they gave.
Results = list[tuple[str, dict[str, Any]]]


def _results(messages: list[dict[str, Any]]) -> Results:
    names: dict[str, str] = {}
    results: Results = []
    for message in messages:
        for call in message.get("tool_calls", ()):
            names[call["id"]] = call["function"]["name"]
        if message["role"] == "tool":
            text = message["content"]
            content = json.loads(text) if text.startswith("{") else {"text": text}
            results.append((names[message["tool_call_id"]], content))
    return results


def _say(text: str) -> Reply:
    return Reply(text=tuple(re.findall(r"\S+\s*", text)), pause=0.02)


def _add(_: str, rest: str, results: Results) -> Reply:
    titles = [title.strip() for title in re.split(r",| and ", rest) if title.strip()]
    if not results:
        return Reply(calls=tuple(("add_todo", {"title": title}) for title in titles))
    failed = [content["error"] for _, content in results if "error" in content]
    return _say(failed[0] if failed else f"Added {_quoted(titles)}.")


def _list(_: str, rest: str, results: Results) -> Reply:
    if not results:
        return Reply(calls=(("list_todos", {"completed": False} if rest == "open" else {}),))
    titles = [f"- {todo['title']}" for todo in results[0][1]["todos"]]
    return _say("\n".join(["On your list:", *titles]) if titles else "Your list is empty.")


def _change(word: str, rest: str, results: Results) -> Reply:
    """Searches the named todos, changes them, then reports it."""
    old, _, new = rest.partition(" to ")
    if not results:
        wanted = {"all": {}, "completed": {"completed": True}}.get(old, {"search": old})
        return Reply(calls=(("list_todos", wanted | {"limit": 100}),))
    found = results[0][1]["todos"]
    if not found:
        return _say(f"There is nothing like “{old}” on your list.")
    ids = [todo["id"] for todo in found]
    if len(results) == 1:
        calls: dict[str, tuple[tuple[str, Any], ...]] = {
            "complete": tuple(("complete_todo", {"id": todo}) for todo in ids),
            "delete": (("delete_todos", {"ids": ids}),),
            "rename": (("update_todo", {"id": ids[0], "title": new}),),
        }
        return Reply(calls=calls[word])
    result = results[-1][1]
    if result.get("confirmed") is False:
        return _say("Nothing was deleted.")
    titles = [todo["title"] for todo in (found[:1] if word == "rename" else found)]
    return _say(result.get("error") or f"{word.capitalize()}d {_quoted(titles)}.")


def _quoted(titles: list[str]) -> str:
    return " and ".join(f"“{title}”" for title in titles)


_WORK: dict[str, Callable[[str, str, Results], Reply]] = {
    "add": _add,
    "list": _list,
    "complete": _change,
    "delete": _change,
    "rename": _change,
}
_TROUBLES = {
    "hang": Reply(hang="stream", text=("One moment",)),
    "cut": Reply(cut=True, text=("I was going to ",)),
    "garbage": Reply(raw=("this is no JSON",)),
    "slow": Reply(text=tuple(f"{number} " for number in range(1, 21)), pause=0.25),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python3 -m tests.openai_server",
        description="Serve OpenAI's chat completions, answering by keywords",
        epilog=by_keywords.__doc__,
    )
    parser.add_argument("--host", default="127.0.0.1", help="default: 127.0.0.1")
    parser.add_argument("--port", type=int, default=9901, help="default: 9901; 0: any")
    options = parser.parse_args()
    server = OpenAIServer(by_keywords, options.host, options.port)
    print(f"OPENAI_BASE_URL={server.url}", flush=True)
    with suppress(KeyboardInterrupt):
        server.serve()


if __name__ == "__main__":
    main()
