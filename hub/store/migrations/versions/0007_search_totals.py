"""How many entries have a term, of all days together."""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TERM = sa.String(length=120).with_variant(sa.String(length=120, collation="C"), "postgresql")


def upgrade() -> None:
    """Make the table, and add up what the days have."""
    op.create_table(
        "search_totals",
        sa.Column("term", TERM, nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("term", name=op.f("pk_search_totals")),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO search_totals (term, count) "
        "SELECT term, sum(count) FROM search_counts GROUP BY term"
    )
