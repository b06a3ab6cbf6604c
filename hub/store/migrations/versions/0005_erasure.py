"""Messages whose content is erased: the row stays, since positions have no gaps."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Say of each message by which entry it was erased; nothing is yet."""
    op.add_column("messages", sa.Column("erased", NUMBER, nullable=True))
    op.create_index("ix_messages_erased", "messages", ["erased"])
    op.create_index(
        "ix_messages_kept",
        "messages",
        ["kind", "marking", "accepted"],
        sqlite_where=sa.text("erased IS NULL"),
        postgresql_where=sa.text("erased IS NULL"),
    )
    undecided = sa.text("payload_digest = '' AND erased IS NULL")
    op.create_index(
        "ix_messages_undecided",
        "messages",
        ["id"],
        sqlite_where=undecided,
        postgresql_where=undecided,
    )
