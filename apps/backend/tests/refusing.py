"""A server that refuses every connection with a given message: for errors that only Neon sends.

It speaks only the start of PostgreSQL's protocol: no TLS, then one error.
"""

import asyncio
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_SSL_REQUEST = struct.pack("!ii", 8, 80877103)


@asynccontextmanager
async def refusing(text: str) -> AsyncIterator[str]:
    """The URL of a server that answers with `text`."""
    fields = b"".join(
        kind + value.encode() + b"\0"
        for kind, value in ((b"S", "ERROR"), (b"V", "ERROR"), (b"C", "XX000"), (b"M", text))
    )
    error = b"E" + struct.pack("!i", len(fields) + 5) + fields + b"\0"

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(len(_SSL_REQUEST)) == _SSL_REQUEST:
            writer.write(b"N")
            await reader.read(1024)
        writer.write(error)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        yield f"postgresql://todo:not-a-secret-pw@127.0.0.1:{port}/todo?sslmode=disable"
