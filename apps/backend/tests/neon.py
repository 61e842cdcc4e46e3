"""A database with addresses like Neon's: TLS and SCRAM are required, direct and behind a pooler.

Tests cannot reach Neon itself. The direct host is PostgreSQL with TLS, which offers channel binding
like Neon's proxy. The pooled host is PgBouncer in transaction mode with TLS. PgBouncer offers no
channel binding, which Neon's proxy does. So `channel_binding=require` through a pooler is the only
combination that is not tested.
"""

import os
import shutil
from pathlib import Path

import psycopg
import trustme

from tests.postgres import NOBODY, Postgres, free_port
from tests.programs import PGBOUNCER, POSTGRES, Program

ENDPOINT = "ep-cool-darkness-a1b2c3d4"
REGION = "eu-central-1.aws.neon.tech"
DIRECT = f"{ENDPOINT}.{REGION}"
POOLER = f"{ENDPOINT}-pooler.{REGION}"
OWNER = "neondb_owner"
OWNER_PASSWORD = "npg_not-a-secret-0123"


class Certificates:
    """An authority of the tests' own, and one certificate for the hosts."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir()
        self.authority, self.chain, self.key = (
            directory / name for name in ("ca.pem", "server.pem", "server.key")
        )
        authority = trustme.CA()
        authority.cert_pem.write_to_path(str(self.authority))
        server = authority.issue_cert(DIRECT, POOLER, "localhost")
        server.private_key_pem.write_to_path(str(self.key))
        for part in server.cert_chain_pems:
            part.write_to_path(str(self.chain), append=True)
        self.key.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(self.key, NOBODY, NOBODY)


class Direct(Postgres):
    """What `ep-….neon.tech` is: TLS with channel binding, nobody without."""

    def __init__(self, directory: Path, certificates: Certificates) -> None:
        super().__init__(
            directory,
            POSTGRES,
            {
                "ssl": "on",
                "ssl_cert_file": str(certificates.chain),
                "ssl_key_file": str(certificates.key),
            },
        )
        (self.data / "pg_hba.conf").write_text("hostssl all all all scram-sha-256\n")

    def make_owner(self) -> None:
        self.execute(f"CREATE ROLE {OWNER} LOGIN PASSWORD '{OWNER_PASSWORD}'")
        self.execute(f"CREATE DATABASE neondb OWNER {OWNER}")


class Pooler(Program):
    """What `ep-…-pooler.neon.tech` is, but for the proxy before it."""

    # Fewer than the application has: every transaction may meet another server connection.
    SIZE = 2

    def __init__(self, directory: Path, server: Direct, certificates: Certificates) -> None:
        directory.mkdir()
        self.port = free_port()
        self._log = directory / "pgbouncer.log"
        users = directory / "users.txt"
        users.write_text(f'"{OWNER}" "{OWNER_PASSWORD}"\n')
        configuration = directory / "pgbouncer.ini"
        configuration.write_text(
            f"""
[databases]
neondb = host=127.0.0.1 port={server.port}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {self.port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {users}
pool_mode = transaction
default_pool_size = {self.SIZE}
max_prepared_statements = 0
server_login_retry = 0.2
client_tls_sslmode = require
client_tls_cert_file = {certificates.chain}
client_tls_key_file = {certificates.key}
server_tls_sslmode = verify-ca
server_tls_ca_file = {certificates.authority}
logfile = {self._log}
"""
        )
        if os.geteuid() == 0:
            for path in (directory, users, configuration):
                shutil.chown(path, NOBODY, NOBODY)
        user = ["--user", "nobody"] if os.geteuid() == 0 else []
        super().__init__(PGBOUNCER, "--quiet", *user, configuration)

    def answers(self) -> bool:
        try:
            psycopg.connect(self.url(), port=self.port, hostaddr="127.0.0.1").close()
        except psycopg.OperationalError:
            return False
        return True

    def trouble(self) -> str:
        return self._log.read_text()

    @staticmethod
    def url(channel_binding: str = "prefer") -> str:
        return neon_url(POOLER, channel_binding)


def neon_url(host: str, channel_binding: str = "require") -> str:
    """As Neon's console prints it."""
    query = f"sslmode=require&channel_binding={channel_binding}"
    return f"postgresql://{OWNER}:{OWNER_PASSWORD}@{host}/neondb?{query}"
