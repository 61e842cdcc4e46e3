"""Where the servers are that PyPI does not have: the Dockerfile's target `test` brings them."""

import os
from pathlib import Path

SERVERS = Path(os.environ.get("TEST_SERVERS", "/opt/servers"))
POSTGRES = SERVERS / "usr/lib/postgresql/17/bin"
PGBOUNCER = SERVERS / "usr/sbin/pgbouncer"
TOXIPROXY = SERVERS / "usr/bin/toxiproxy-server"


def environment() -> dict[str, str]:
    """For programs with libraries of their own."""
    return os.environ | {"LD_LIBRARY_PATH": str(SERVERS / "lib")}
