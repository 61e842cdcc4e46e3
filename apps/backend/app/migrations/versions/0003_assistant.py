"""The assistant's conversation, its questions to the user, and who is at work for whom.

Must also serve the release before this one: a rollback brings its image back, not its schema.
"""

from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # `steps` is what the model was sent and said in the course of an answer, tools included.
    op.execute("""
        CREATE TABLE assistant_messages (
            id uuid PRIMARY KEY,
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            number bigint NOT NULL GENERATED ALWAYS AS IDENTITY,
            role text NOT NULL CHECK (role IN ('user', 'assistant')),
            text text NOT NULL,
            touched uuid[] NOT NULL DEFAULT '{}',
            steps jsonb NOT NULL DEFAULT '[]',
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("CREATE INDEX assistant_messages_by_number ON assistant_messages (user_id, number)")
    op.execute("""
        CREATE TABLE assistant_confirmations (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            message_id uuid NOT NULL REFERENCES assistant_messages ON DELETE CASCADE,
            todos jsonb NOT NULL,
            expires_at timestamptz NOT NULL,
            answered_at timestamptz
        )
    """)
    # For the cascades from users and messages.
    op.execute("CREATE INDEX assistant_confirmations_by_user ON assistant_confirmations (user_id)")
    op.execute(
        "CREATE INDEX assistant_confirmations_by_message ON assistant_confirmations (message_id)"
    )
    op.execute("""
        CREATE TABLE assistant_leases (
            user_id uuid PRIMARY KEY REFERENCES users ON DELETE CASCADE,
            holder uuid NOT NULL,
            expires_at timestamptz NOT NULL
        )
    """)
