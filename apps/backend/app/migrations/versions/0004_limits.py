"""Limits by leaky buckets, and the end of all sessions of a user at once.

Only adds. The release before this one goes on counting in `sign_in_failures`.
"""

from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE limits (
            key text PRIMARY KEY,
            empty_at timestamptz NOT NULL,
            free_at timestamptz NOT NULL
        )
    """)
    op.execute("CREATE INDEX limits_by_time ON limits (empty_at)")
    op.execute("ALTER TABLE users ADD COLUMN sessions_from timestamptz")
