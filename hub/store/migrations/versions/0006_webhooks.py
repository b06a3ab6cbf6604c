"""Webhooks: subscriptions, what is owed to them, and what their endpoints answered."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
TIME = sa.String(length=24)
ID = sa.String(length=36)

_OWED = "state = 'waiting'"
_INDEXES = {
    "due": (["subscription", "next"], _OWED),
    "order": (["subscription", "thread", "idx"], _OWED),
    "dead": (["subscription", "idx"], "state = 'dead'"),
    "unreported": (["subscription", "idx"], "state != 'waiting' AND reported IS NULL"),
}


def upgrade() -> None:
    """Make the tables; nobody has subscribed yet."""
    _subscriptions()
    _deliveries()
    _attempts()
    op.create_table(
        "webhook_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.Column("gathered", TIME, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_webhook_head")),
    )
    op.execute("INSERT INTO webhook_head (id, size, gathered) VALUES (1, 0, '')")


def _subscriptions() -> None:
    op.create_table(
        "subscriptions",
        sa.Column("id", ID, nullable=False),
        sa.Column("owner", sa.String(length=16), nullable=False),
        sa.Column("url", sa.String(length=2048), nullable=False),
        sa.Column("filter", sa.Text(), nullable=False),
        sa.Column("ordered", sa.Boolean(), nullable=False),
        sa.Column("secrets", sa.Text(), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("failing_since", TIME),
        sa.Column("warned", TIME),
        sa.Column("start", NUMBER, nullable=False),
        sa.Column("created", TIME, nullable=False),
        sa.Column("ended", TIME),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_subscriptions")),
    )
    op.create_index("ix_subscriptions_owner", "subscriptions", ["owner"])


def _deliveries() -> None:
    table = "webhook_deliveries"
    op.create_table(
        table,
        sa.Column("subscription", ID, nullable=False),
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.Column("thread", ID, nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("next", TIME),
        sa.Column("reported", NUMBER),
        sa.ForeignKeyConstraint(
            ["subscription"], ["subscriptions.id"], name=op.f(f"fk_{table}_subscription")
        ),
        sa.ForeignKeyConstraint(["idx"], ["log_entries.idx"], name=op.f(f"fk_{table}_idx")),
        sa.PrimaryKeyConstraint("subscription", "idx", name=op.f(f"pk_{table}")),
    )
    for name, (columns, condition) in _INDEXES.items():
        where = sa.text(condition)
        op.create_index(
            f"ix_{table}_{name}", table, columns, sqlite_where=where, postgresql_where=where
        )


def _attempts() -> None:
    table = "webhook_attempts"
    op.create_table(
        table,
        sa.Column("subscription", ID, nullable=False),
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.Column("attempt", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("time", TIME, nullable=False),
        sa.Column("status", sa.Integer()),
        sa.Column("error", sa.String(length=400)),
        sa.Column("excerpt", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["subscription"], ["subscriptions.id"], name=op.f(f"fk_{table}_subscription")
        ),
        sa.PrimaryKeyConstraint("subscription", "idx", "attempt", name=op.f(f"pk_{table}")),
    )
    op.create_index(f"ix_{table}_subscription_time", table, ["subscription", "time"])
