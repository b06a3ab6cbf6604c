"""What witnesses cosigned, and what they hold against us."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make the tables; nothing is witnessed yet."""
    op.create_table(
        "witnessed",
        sa.Column("size", NUMBER, autoincrement=False, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("quorum", sa.String(length=24), nullable=True),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_witnessed")),
    )
    op.create_table(
        "witnesses",
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.Column("time", sa.String(length=24), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_witnesses")),
    )
    op.create_table(
        "contradictions",
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.Column("time", sa.String(length=24), nullable=False),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_contradictions")),
    )
