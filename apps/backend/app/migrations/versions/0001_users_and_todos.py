"""Users and their todos; one user to own all todos until there are accounts."""

from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.execute("""
        CREATE TABLE users (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            email text NOT NULL UNIQUE CHECK (email = lower(email)),
            password_hash text,
            created_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    op.execute("""
        CREATE TABLE todos (
            id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
            user_id uuid NOT NULL REFERENCES users ON DELETE CASCADE,
            title text NOT NULL CHECK (char_length(title) BETWEEN 1 AND 500),
            completed boolean NOT NULL DEFAULT false,
            position bigint NOT NULL,
            created_at timestamptz NOT NULL DEFAULT now(),
            updated_at timestamptz NOT NULL DEFAULT now()
        )
    """)
    # The list's order, its keyset pages and max(position) all read this index.
    op.execute("CREATE INDEX todos_by_position ON todos (user_id, position, id)")
    # A literal, not app.users.current: a migration must mean the same for ever.
    op.execute("""
        INSERT INTO users (id, email)
        VALUES ('00000000-0000-4000-8000-000000000001', 'local@todo.invalid')
    """)
