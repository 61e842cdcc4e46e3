"""Accounts: sign-out, the limit on sign-in, and retries that make no second todo.

Only adds: the release before this one finds everything as it was, its one user among it.
"""

from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # Tokens that were signed out before their time. Gone with the user: without one, no token is
    # good.
    op.execute("""
        CREATE TABLE revoked_tokens (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            expires_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX revoked_tokens_by_user ON revoked_tokens (user_id)")
    op.execute("CREATE INDEX revoked_tokens_by_expiry ON revoked_tokens (expires_at)")
    # Not a reference to users: what is tried with unknown addresses counts too.
    op.execute("""
        CREATE TABLE sign_in_failures (
            id bigint PRIMARY KEY GENERATED ALWAYS AS IDENTITY,
            email text NOT NULL,
            client text NOT NULL,
            failed_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX sign_in_failures_by_email ON sign_in_failures (email, failed_at)")
    op.execute("CREATE INDEX sign_in_failures_by_client ON sign_in_failures (client, failed_at)")
    op.execute("CREATE INDEX sign_in_failures_by_time ON sign_in_failures (failed_at)")
    # The first answer is kept whole: the todo itself may have changed or gone since.
    op.execute("""
        CREATE TABLE idempotency_keys (
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            key text NOT NULL CHECK (char_length(key) BETWEEN 1 AND 255),
            request_digest bytea NOT NULL,
            todo_id uuid NOT NULL,
            title text NOT NULL,
            position bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (user_id, key)
        )
    """)
    op.execute("CREATE INDEX idempotency_keys_by_time ON idempotency_keys (created_at)")
