"""What the log is searched by."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TERM = sa.String(length=120).with_variant(sa.String(length=120, collation="C"), "postgresql")
WORD = sa.String(length=64).with_variant(sa.String(length=64, collation="C"), "postgresql")

# Words come as they are compared: each database only has to keep them apart. FTS5's ascii tokenizer
# takes every other character for a letter; without positions, nobody can put a text together again.
# GIN's list of what is new would be read whole by every search.
WORDS = {
    "sqlite": """
        CREATE VIRTUAL TABLE search_words
        USING fts5(words, tokenize = 'ascii', detail = 'none', columnsize = 0)
    """,
    "postgresql": "CREATE TABLE search_words (idx BIGINT PRIMARY KEY, words TSVECTOR NOT NULL)",
}
WORDS_INDEX = (
    "CREATE INDEX ix_search_words ON search_words USING gin (words) WITH (fastupdate = off)"
)


def upgrade() -> None:
    """Make the tables; the index begins with the first entry."""
    op.create_table(
        "search_terms",
        sa.Column("term", NUMBER, autoincrement=False, nullable=False),
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.PrimaryKeyConstraint("term", "idx", name=op.f("pk_search_terms")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "search_counts",
        sa.Column("term", TERM, nullable=False),
        sa.Column("day", sa.String(length=10), nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("term", "day", name=op.f("pk_search_counts")),
        sqlite_with_rowid=False,
    )
    op.create_table(
        "search_vocabulary",
        sa.Column("word", WORD, nullable=False),
        sa.Column("count", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("word", name=op.f("pk_search_vocabulary")),
        sqlite_with_rowid=False,
    )
    head = op.create_table(
        "search_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.Column("forgotten", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_search_head")),
    )
    op.bulk_insert(head, [{"id": 1, "size": 0, "forgotten": 0}])
    dialect = op.get_bind().dialect.name
    op.execute(WORDS[dialect])
    if dialect == "postgresql":
        op.execute(WORDS_INDEX)
