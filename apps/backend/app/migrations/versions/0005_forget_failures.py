"""Deletes the addresses and emails of wrong passwords: `limits` counts since 0004.

The table stays: pods of 0.3.0 count in it until the rollout ends, and after a rollback. What they
add after this migration stays too, until a migration of the next release drops the table.
"""

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("DELETE FROM sign_in_failures")
