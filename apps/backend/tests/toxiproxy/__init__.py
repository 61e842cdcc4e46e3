"""Toxiproxy between the application and its database: cuts, stalls, resets and delays."""

from typing import Any, Self

import httpx

from tests.postgres import free_port
from tests.programs import TOXIPROXY, Program


class Toxiproxy(Program):
    """One proxy to one port of this machine."""

    def __init__(self, upstream: int) -> None:
        self._upstream = upstream
        self.port = free_port()
        api = free_port()
        super().__init__(TOXIPROXY, "-host", "127.0.0.1", "-port", str(api))
        self._api = httpx.Client(base_url=f"http://127.0.0.1:{api}")

    def answers(self) -> bool:
        try:
            self._api.get("/version")
        except httpx.TransportError:
            return False
        return True

    def __enter__(self) -> Self:
        super().__enter__()
        self._post("/proxies", name="database", listen=f"127.0.0.1:{self.port}",
                   upstream=f"127.0.0.1:{self._upstream}")  # fmt: skip
        return self

    def __exit__(self, *error: object) -> None:
        super().__exit__(*error)
        self._api.close()

    def hold(self) -> None:
        """Connections are taken and nothing passes, as while a compute wakes up."""
        self._toxic("latency", latency=3_600_000)

    def release(self) -> None:
        """What was held passes now."""
        self._api.delete("/proxies/database/toxics/latency").raise_for_status()

    def swallow(self) -> None:
        """Drops all data from now on, without an error."""
        self._toxic("timeout", "upstream", timeout=0)
        self._toxic("timeout", "downstream", timeout=0)

    def deafen(self) -> None:
        """The server hears everything; nothing of what it answers arrives."""
        self._toxic("timeout", "downstream", timeout=0)

    def reset(self) -> None:
        """Connections end with a reset, now and whenever one is made."""
        self._toxic("reset_peer", timeout=0)

    def cut(self) -> None:
        """Connections are closed, and new ones refused."""
        self._post("/proxies/database", enabled=False)

    def heal(self) -> None:
        self._post("/reset")

    def _toxic(self, kind: str, stream: str = "upstream", **attributes: int) -> None:
        name = kind if stream == "upstream" else f"{kind}-{stream}"
        self._post("/proxies/database/toxics", name=name, type=kind, stream=stream,
                   attributes=attributes)  # fmt: skip

    def _post(self, path: str, **body: Any) -> None:
        self._api.post(path, json=body).raise_for_status()
