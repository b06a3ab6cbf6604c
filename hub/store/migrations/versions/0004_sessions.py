"""Sessions of operators and auditors at the console."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    """Make the table; nobody is signed in yet."""
    op.create_table(
        "sessions",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("token", sa.String(length=43), nullable=False),
        sa.Column("created", sa.String(length=24), nullable=False),
        sa.Column("seen", sa.String(length=24), nullable=False),
        sa.ForeignKeyConstraint(["token"], ["access_tokens.hash"], name=op.f("fk_sessions_token")),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_sessions")),
    )
