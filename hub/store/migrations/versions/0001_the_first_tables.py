"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

NUMBER = sa.BigInteger().with_variant(sa.Integer(), "sqlite")


def upgrade() -> None:
    """Make every table, and the empty log's head."""
    op.create_table(
        "access_tokens",
        sa.Column("hash", sa.String(length=43), nullable=False),
        sa.Column("account", sa.String(length=64), nullable=False),
        sa.Column("scopes", sa.String(length=100), nullable=False),
        sa.Column("created", sa.String(length=24), nullable=False),
        sa.Column("revoked", sa.String(length=24), nullable=True),
        sa.PrimaryKeyConstraint("hash", name=op.f("pk_access_tokens")),
    )
    op.create_index(op.f("ix_access_tokens_account"), "access_tokens", ["account"], unique=False)
    op.create_table(
        "certificates",
        sa.Column("serial", sa.String(length=40), nullable=False),
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("not_after", sa.String(length=24), nullable=False),
        sa.Column("pem", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("serial", name=op.f("pk_certificates")),
    )
    op.create_index(op.f("ix_certificates_code"), "certificates", ["code"], unique=False)
    op.create_table(
        "checkpoints",
        sa.Column("size", NUMBER, autoincrement=False, nullable=False),
        sa.Column("note", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("size", name=op.f("pk_checkpoints")),
    )
    op.create_table(
        "join_requests",
        sa.Column("code", sa.String(length=16), nullable=False),
        sa.Column("invitation", sa.String(length=43), nullable=False),
        sa.Column("expires", sa.String(length=24), nullable=False),
        sa.Column("kid", sa.String(length=43), nullable=True),
        sa.Column("fingerprint", sa.String(length=30), nullable=True),
        sa.Column("statement", sa.LargeBinary(), nullable=True),
        sa.Column("received", sa.String(length=24), nullable=True),
        sa.PrimaryKeyConstraint("code", name=op.f("pk_join_requests")),
    )
    op.create_table(
        "lanes",
        sa.Column("recipient", sa.String(length=16), nullable=False),
        sa.Column("published", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("recipient", name=op.f("pk_lanes")),
    )
    op.create_table(
        "log_entries",
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.Column("type", sa.String(length=40), nullable=False),
        sa.Column("time", sa.String(length=24), nullable=False),
        sa.Column("actor", sa.String(length=64), nullable=False),
        sa.Column("subject", sa.String(length=64), nullable=True),
        sa.Column("entry", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_log_entries")),
    )
    op.create_index(op.f("ix_log_entries_actor_idx"), "log_entries", ["actor", "idx"], unique=False)
    op.create_index(
        op.f("ix_log_entries_subject_idx"), "log_entries", ["subject", "idx"], unique=False
    )
    op.create_index(op.f("ix_log_entries_type_idx"), "log_entries", ["type", "idx"], unique=False)
    op.create_table(
        "log_head",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("size", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_log_head")),
    )
    op.create_table(
        "sent_counts",
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("minute", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("count", sa.Integer(), nullable=False),
        sa.PrimaryKeyConstraint("sender", "minute", name=op.f("pk_sent_counts")),
    )
    op.create_table(
        "tiles",
        sa.Column("level", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("n", NUMBER, autoincrement=False, nullable=False),
        sa.Column("hashes", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("level", "n", name=op.f("pk_tiles")),
    )
    op.create_table(
        "used_tokens",
        sa.Column("jti", sa.String(length=80), nullable=False),
        sa.Column("expires", NUMBER, nullable=False),
        sa.PrimaryKeyConstraint("jti", name=op.f("pk_used_tokens")),
    )
    op.create_index(op.f("ix_used_tokens_expires"), "used_tokens", ["expires"], unique=False)
    op.create_table(
        "answers",
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.Column("notice", sa.String(length=36), nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("time", sa.String(length=24), nullable=False),
        sa.Column("member", sa.String(length=16), nullable=False),
        sa.Column("answer", sa.String(length=30), nullable=False),
        sa.ForeignKeyConstraint(["idx"], ["log_entries.idx"], name=op.f("fk_answers_idx")),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_answers")),
    )
    op.create_index(op.f("ix_answers_notice"), "answers", ["notice"], unique=False)
    op.create_table(
        "log_private",
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.Column("salt", sa.LargeBinary(), nullable=False),
        sa.Column("private", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["idx"], ["log_entries.idx"], name=op.f("fk_log_private_idx")),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_log_private")),
    )
    op.create_table(
        "messages",
        sa.Column("id", sa.String(length=36), nullable=False),
        sa.Column("idx", NUMBER, nullable=False),
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.Column("kind", sa.String(length=80), nullable=False),
        sa.Column("marking", sa.String(length=20), nullable=False),
        sa.Column("thread", sa.String(length=36), nullable=True),
        sa.Column("accepted", sa.String(length=24), nullable=False),
        sa.Column("expires", sa.String(length=24), nullable=True),
        sa.Column("payload_digest", sa.String(length=43), nullable=False),
        sa.Column("envelope", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(["idx"], ["log_entries.idx"], name=op.f("fk_messages_idx")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_messages")),
        sa.UniqueConstraint("idx", name=op.f("uq_messages_idx")),
    )
    op.create_index(
        op.f("ix_messages_sender_accepted"), "messages", ["sender", "accepted"], unique=False
    )
    op.create_index(op.f("ix_messages_thread"), "messages", ["thread"], unique=False)
    op.create_table(
        "receipts",
        sa.Column("idx", NUMBER, autoincrement=False, nullable=False),
        sa.Column("digest", sa.String(length=43), nullable=False),
        sa.Column("receiver", sa.String(length=16), nullable=False),
        sa.Column("sender", sa.String(length=16), nullable=False),
        sa.ForeignKeyConstraint(["idx"], ["log_entries.idx"], name=op.f("fk_receipts_idx")),
        sa.PrimaryKeyConstraint("idx", name=op.f("pk_receipts")),
        sa.UniqueConstraint("digest", name=op.f("uq_receipts_digest")),
    )
    op.create_index(op.f("ix_receipts_sender_idx"), "receipts", ["sender", "idx"], unique=False)
    op.create_table(
        "deliveries",
        sa.Column("recipient", sa.String(length=16), nullable=False),
        sa.Column("position", NUMBER, autoincrement=False, nullable=False),
        sa.Column("message_id", sa.String(length=36), nullable=False),
        sa.Column("state", sa.String(length=10), nullable=False),
        sa.Column("receipt_idx", NUMBER, nullable=True),
        sa.Column("receipt_time", sa.String(length=24), nullable=True),
        sa.Column("reason", sa.String(length=500), nullable=True),
        sa.Column("expires", sa.String(length=24), nullable=True),
        sa.ForeignKeyConstraint(
            ["message_id"], ["messages.id"], name=op.f("fk_deliveries_message_id")
        ),
        sa.PrimaryKeyConstraint("recipient", "position", name=op.f("pk_deliveries")),
    )
    waiting = sa.text("state = 'waiting'")
    for name, columns in (("waiting", ["recipient", "position"]), ("expires", ["expires"])):
        op.create_index(
            op.f(f"ix_deliveries_{name}"),
            "deliveries",
            columns,
            unique=False,
            sqlite_where=waiting,
            postgresql_where=waiting,
        )
    op.create_index(op.f("ix_deliveries_message_id"), "deliveries", ["message_id"], unique=False)
    op.execute("INSERT INTO log_head (id, size) VALUES (1, 0)")
