"""The tables. The log is the truth; every other table is derived from it or is not yet in it.

What an attacker who edits one table can do is written beside it; ``nhri-hub audit verify`` and
every connector notice it.
"""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    String,
    Table,
    Text,
    and_,
    literal_column,
)

from schemas import entry as entries

metadata = MetaData(
    naming_convention={
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
    }
)

# An index of the log, a position in an inbox, seconds since 1970: 32 bits end too soon. SQLite's
# INTEGER has 64, and only under that name is a primary key the row's own number.
NUMBER = BigInteger().with_variant(Integer(), "sqlite")

TIME = String(24)
CODE = String(16)
ID = String(36)

# Compared by bytes: terms of one name are one range, and so are words with one beginning.
TERM = String(120).with_variant(String(120, collation="C"), "postgresql")
WORD = String(64).with_variant(String(64, collation="C"), "postgresql")

# Edited rows no longer hash to the tiles, tiles no longer to the signed checkpoint.
log_entries = Table(
    "log_entries",
    metadata,
    Column("idx", NUMBER, primary_key=True, autoincrement=False),
    Column("type", String(40), nullable=False),
    Column("time", TIME, nullable=False),
    Column("actor", String(64), nullable=False),
    Column("subject", String(64)),
    Column("entry", LargeBinary, nullable=False),
    Index(None, "type", "idx"),
    Index(None, "actor", "idx"),
    Index(None, "subject", "idx"),
)

# Apart from the entries, so that erasing both columns leaves every proof valid.
log_private = Table(
    "log_private",
    metadata,
    Column("idx", ForeignKey("log_entries.idx"), primary_key=True, autoincrement=False),
    Column("salt", LargeBinary, nullable=False),
    Column("private", LargeBinary, nullable=False),
)

# The hashes of one tile, up to 256 of 32 bytes; a partial tile is a prefix of its row.
tiles = Table(
    "tiles",
    metadata,
    Column("level", Integer, primary_key=True, autoincrement=False),
    Column("n", NUMBER, primary_key=True, autoincrement=False),
    Column("hashes", LargeBinary, nullable=False),
)

checkpoints = Table(
    "checkpoints",
    metadata,
    Column("size", NUMBER, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
)

# The candidate is the row without a quorum; there is one at most. A cosignature that is removed or
# added no longer verifies, or is missing from the quorum that the row says it has.
witnessed = Table(
    "witnessed",
    metadata,
    Column("size", NUMBER, primary_key=True, autoincrement=False),
    Column("note", LargeBinary, nullable=False),
    Column("quorum", TIME),
)

witnesses = Table(
    "witnesses",
    metadata,
    Column("code", CODE, primary_key=True),
    Column("size", NUMBER, nullable=False),
    Column("time", TIME, nullable=False),
)

# Checkpoints that our key signed and that are not of this log. Removing a row lets the hub sign
# again, and every witness that holds the checkpoint stop it again.
contradictions = Table(
    "contradictions",
    metadata,
    Column("code", CODE, primary_key=True),
    Column("note", LargeBinary, nullable=False),
    Column("time", TIME, nullable=False),
)

messages = Table(
    "messages",
    metadata,
    Column("id", ID, primary_key=True),
    Column("idx", ForeignKey("log_entries.idx"), nullable=False, unique=True),
    Column("sender", CODE, nullable=False),
    Column("kind", String(80), nullable=False),
    Column("marking", String(20), nullable=False),
    Column("thread", ID),
    Column("accepted", TIME, nullable=False),
    Column("expires", TIME),
    # Both empty once the content is erased: a digest without a salt lets a short text be guessed.
    Column("payload_digest", String(43), nullable=False),
    Column("envelope", LargeBinary, nullable=False),
    # The decision, ``message.erased``. Null beside an envelope that is gone: it is still to be
    # recorded, as after a restore. Set by an attacker, it hides nothing that the log does not have.
    Column("erased", NUMBER, index=True),
    Index(None, "sender", "accepted"),
    Index(None, "thread"),
)

# Whether a message is held stands in the log alone: the newest of these entries about it.
HOLDING = (entries.MESSAGE_HELD, entries.MESSAGE_RELEASED)

# What retention looks for: of all messages those that are still there.
Index(
    "ix_messages_kept",
    messages.c.kind,
    messages.c.marking,
    messages.c.accepted,
    sqlite_where=messages.c.erased.is_(None),
    postgresql_where=messages.c.erased.is_(None),
)

# Literals, as below. What is empty though no entry says so is looked for in every round.
is_undecided = and_(messages.c.payload_digest == literal_column("''"), messages.c.erased.is_(None))
Index(
    "ix_messages_undecided",
    messages.c.id,
    sqlite_where=is_undecided,
    postgresql_where=is_undecided,
)

deliveries = Table(
    "deliveries",
    metadata,
    Column("recipient", CODE, primary_key=True),
    Column("position", NUMBER, primary_key=True, autoincrement=False),
    Column("message_id", ForeignKey("messages.id"), nullable=False),
    Column("state", String(10), nullable=False),
    Column("receipt_idx", NUMBER),
    Column("receipt_time", TIME),
    Column("reason", String(500)),
    Column("expires", TIME),
    Index(None, "message_id"),
)

# A literal: a plan that is made for any value cannot use the indexes below.
is_waiting = deliveries.c.state == literal_column("'waiting'")

# Only these rows are looked for again and again, and of all that there ever were they are few.
for name, columns in {
    "ix_deliveries_waiting": (deliveries.c.recipient, deliveries.c.position),
    "ix_deliveries_expires": (deliveries.c.expires,),
}.items():
    Index(name, *columns, sqlite_where=is_waiting, postgresql_where=is_waiting)

# How far each inbox queue of the broker was filled; behind the truth after a crash, never ahead.
lanes = Table(
    "lanes",
    metadata,
    Column("recipient", CODE, primary_key=True),
    Column("published", NUMBER, nullable=False),
)

receipts = Table(
    "receipts",
    metadata,
    Column("idx", ForeignKey("log_entries.idx"), primary_key=True, autoincrement=False),
    Column("digest", String(43), nullable=False, unique=True),
    Column("receiver", CODE, nullable=False),
    Column("sender", CODE, nullable=False),
    Index(None, "sender", "idx"),
)

answers = Table(
    "answers",
    metadata,
    Column("idx", ForeignKey("log_entries.idx"), primary_key=True, autoincrement=False),
    Column("notice", ID, nullable=False),
    Column("message_id", ID, nullable=False),
    Column("time", TIME, nullable=False),
    Column("member", CODE, nullable=False),
    Column("answer", String(30), nullable=False),
    Index(None, "notice"),
)

# Not in the log: an invitation's secret is only known to who was given the bundle.
join_requests = Table(
    "join_requests",
    metadata,
    Column("code", CODE, primary_key=True),
    Column("invitation", String(43), nullable=False),
    Column("expires", TIME, nullable=False),
    Column("kid", String(43)),
    Column("fingerprint", String(30)),
    Column("statement", LargeBinary),
    Column("received", TIME),
)

certificates = Table(
    "certificates",
    metadata,
    Column("serial", String(40), primary_key=True),
    Column("code", CODE, nullable=False, index=True),
    Column("not_after", TIME, nullable=False),
    Column("pem", Text, nullable=False),
)

# What each sender sent in each minute, for the quota.
sent_counts = Table(
    "sent_counts",
    metadata,
    Column("sender", CODE, primary_key=True),
    Column("minute", Integer, primary_key=True, autoincrement=False),
    Column("count", Integer, nullable=False),
)

used_tokens = Table(
    "used_tokens",
    metadata,
    Column("jti", String(80), primary_key=True),
    Column("expires", NUMBER, nullable=False, index=True),
)

access_tokens = Table(
    "access_tokens",
    metadata,
    Column("hash", String(43), primary_key=True),
    Column("account", String(64), nullable=False, index=True),
    Column("scopes", String(100), nullable=False),
    Column("created", TIME, nullable=False),
    Column("revoked", TIME),
)

# A session lasts no longer than the access token or the participant's key that it was opened with.
# A row that is added opens the console to whoever holds its secret; account and scopes are the
# token's, the participant is the key's, which `operator.login`, `operator.token_created` and
# `participant.login` name in the log.
sessions = Table(
    "sessions",
    metadata,
    Column("hash", String(43), primary_key=True),
    Column("token", ForeignKey("access_tokens.hash")),
    Column("kid", String(43)),
    Column("created", TIME, nullable=False),
    Column("seen", TIME, nullable=False),
)

# The search index: what each entry is found by, each term as its number. It can be dropped and made
# again from the log; an edited one misleads a search, never a proof.
search_terms = Table(
    "search_terms",
    metadata,
    Column("term", NUMBER, primary_key=True, autoincrement=False),
    Column("idx", NUMBER, primary_key=True, autoincrement=False),
    sqlite_with_rowid=False,
)

# How many entries of a day have a term, of the terms that few values make.
search_counts = Table(
    "search_counts",
    metadata,
    Column("term", TERM, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("count", NUMBER, nullable=False),
    sqlite_with_rowid=False,
)

# The same of all days together: a search asks which of its terms is the rarest.
search_totals = Table(
    "search_totals",
    metadata,
    Column("term", TERM, primary_key=True),
    Column("count", NUMBER, nullable=False),
    sqlite_with_rowid=False,
)

# The words that there are, and in how many entries.
search_vocabulary = Table(
    "search_vocabulary",
    metadata,
    Column("word", WORD, primary_key=True),
    Column("count", NUMBER, nullable=False),
    sqlite_with_rowid=False,
)

# The one row of who fills the index: how many entries are in it, and how often it had to forget.
search_head = Table(
    "search_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", NUMBER, nullable=False),
    Column("forgotten", NUMBER, nullable=False),
)

# The words of messages are in ``search_words``, which is not told here: in SQLite it is FTS5's with
# tables of its own, in PostgreSQL it has a column and an index of that database alone.

# What participants asked for. A changed URL sends its owner's messages elsewhere, each with the
# marking's rule still applied; the log has a record of what the owner asked for.
# No secret stands here: they are derived from the log's key (``hub.delivery.keyring``).
subscriptions = Table(
    "subscriptions",
    metadata,
    Column("id", ID, primary_key=True),
    Column("owner", CODE, nullable=False, index=True),
    Column("url", String(2048), nullable=False),
    Column("filter", Text, nullable=False),
    Column("ordered", Boolean, nullable=False),
    Column("secrets", Text, nullable=False),
    Column("state", String(10), nullable=False),
    Column("failing_since", TIME),
    Column("warned", TIME),
    Column("start", NUMBER, nullable=False),
    Column("created", TIME, nullable=False),
    Column("ended", TIME),
)

# A row removed is a message that is not sent by webhook; it is in the inbox, too, or in the feed.
# ``next`` is when to send; while somebody sends it, when another may: a lease.
webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("subscription", ForeignKey("subscriptions.id"), primary_key=True),
    Column("idx", ForeignKey("log_entries.idx"), primary_key=True, autoincrement=False),
    Column("thread", ID, nullable=False),
    Column("state", String(10), nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("next", TIME),
    # The entry ``webhook.delivered`` that has the outcome; null where that is still to come.
    Column("reported", NUMBER),
)

# Literals, as above: only these rows are looked for again and again.
is_owed = webhook_deliveries.c.state == literal_column("'waiting'")
is_dead = webhook_deliveries.c.state == literal_column("'dead'")
is_unreported = and_(
    webhook_deliveries.c.state != literal_column("'waiting'"),
    webhook_deliveries.c.reported.is_(None),
)
for name, names, condition in (
    ("due", ("subscription", "next", "idx"), is_owed),
    ("order", ("subscription", "thread", "idx"), is_owed),
    ("dead", ("subscription", "idx"), is_dead),
    ("unreported", ("subscription", "idx"), is_unreported),
):
    Index(
        f"ix_webhook_deliveries_{name}",
        *(webhook_deliveries.c[column] for column in names),
        sqlite_where=condition,
        postgresql_where=condition,
    )

# What endpoints answered, ten of each delivery at most: ``attempt`` begins again with a replay.
webhook_attempts = Table(
    "webhook_attempts",
    metadata,
    Column("subscription", ForeignKey("subscriptions.id"), primary_key=True),
    Column("idx", NUMBER, primary_key=True, autoincrement=False),
    Column("attempt", Integer, primary_key=True, autoincrement=False),
    Column("time", TIME, nullable=False),
    Column("status", Integer),
    Column("error", String(400)),
    Column("excerpt", LargeBinary, nullable=False),
    Index(None, "subscription", "time"),
)

# The one row of who finds out what is owed: how many entries were looked at, and when outcomes were
# last gathered for the log. Set back, messages are matched again, and none is sent twice for it.
webhook_head = Table(
    "webhook_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", NUMBER, nullable=False),
    Column("gathered", TIME, nullable=False),
)

# The one row that every writer locks first: the head of the log.
log_head = Table(
    "log_head",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("size", NUMBER, nullable=False),
)
