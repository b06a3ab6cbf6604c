"""The store: one writer, durable transactions, and everything found again by those who read."""

import sqlite3

import msgspec
import pytest

from connectors.alarms import KINDS, Finding, Severity
from connectors.store import Reader, Store, StoreError
from connectors.tables import (
    APPLICATION_ID,
    VERSION,
    Followed,
    InboxState,
    MailTrouble,
    Received,
    RecordedReceipt,
    SentState,
)
from schemas import entry as entries
from schemas import jsontext, merkle, note
from tests import builders
from tests.builders import message_id, time

LOG = str(builders.LOG)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "kz" / "store.sqlite"


@pytest.fixture
def store(path):
    with Store.open_for(path, "kz", LOG) as opened:
        yield opened


def received(position, number=1, **overrides):
    row = Received(
        position=position,
        state=InboxState.VALID,
        raw=jsontext.encode(builders.delivery()),
        received=time(),
        id=message_id(number),
        sender="kg",
        kind="activity_bulletin.v1",
        index=position,
        entry_hash=b"%32d" % position,
        accepted=time(),
        status="received",
    )
    return msgspec.structs.replace(row, **overrides)


def put(store, *rows):
    with store.transaction():
        for row in rows:
            store.add_received(row)


def follow(store, *log):
    """Believe a log of these entries."""
    raws = [entries.encode(entry) for entry in log]
    tiles = merkle.append(0, {}, [merkle.leaf_hash(raw) for raw in raws])
    kept = [
        (index, entry.type, raw) for index, (entry, raw) in enumerate(zip(log, raws, strict=True))
    ]
    with store.transaction():
        store.stage(tiles, kept)
        size = len(raws)
        store.set_followed(Followed(size, merkle.tree_root(size, tiles), b"note", size, time()))


# --- Opening ---


def test_a_new_store_is_empty_and_marked_as_ours(store, path):
    assert store.status().sent == {}
    assert store.status().last_position == 0
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA application_id").fetchone() == (APPLICATION_ID,)
        assert connection.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    connection.close()


def test_what_was_written_is_there_after_closing_and_for_readers_at_once(path):
    with Store.open_for(path, "kz", LOG) as store:
        put(store, received(1))
        with Reader.open(path) as reader:
            assert reader.at(1) == received(1)
    with Reader.open(path) as reader:
        assert reader.at(1) == received(1)
    with Store.open_for(path, "kz", LOG) as store:
        assert store.at(1) == received(1)


def test_only_their_owner_can_read_the_files(store, path):
    put(store, received(1))
    assert {file.stat().st_mode & 0o777 for file in path.parent.iterdir()} == {0o600}
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_snapshot_answers_as_of_one_moment(store, path):
    put(store, received(1, 1))
    with Reader.open(path) as reader:
        with reader.snapshot():
            assert reader.last_position() == 1
            put(store, received(2, 2))
            assert reader.last_position() == 1
        assert reader.last_position() == 2


def test_there_is_one_writer(store, path):
    with pytest.raises(StoreError, match="Another connector daemon already runs"):
        Store.open_for(path, "kz", LOG)


def test_a_reader_cannot_write(store, path):
    with Reader.open(path) as reader, pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader._connection.execute("DELETE FROM inbox")


def test_a_store_that_is_not_there_yet_is_no_mystery(path):
    with pytest.raises(StoreError, match=r"no store at .* yet"):
        Reader.open(path)
    path.parent.mkdir()
    path.touch()
    with pytest.raises(StoreError, match=r"nothing in .* yet"):
        Reader.open(path)


def test_anothers_database_is_not_touched(path):
    path.parent.mkdir()
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE cats (name TEXT)")
    connection.close()
    before = path.read_bytes()
    for open_it in (lambda: Reader.open(path), lambda: Store.open_for(path, "kz", LOG)):
        with pytest.raises(StoreError, match="is not a connector's store"):
            open_it()
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_refused(path):
    path.parent.mkdir()
    path.write_bytes(b"nonsense" * 1000)
    for open_it in (lambda: Reader.open(path), lambda: Store.open_for(path, "kz", LOG)):
        with pytest.raises(StoreError, match="damaged or no database"):
            open_it()


def test_a_damaged_store_is_not_worked_on(path):
    with Store.open_for(path, "kz", LOG) as store:
        for number in range(1, 200):
            put(store, received(number, number))
    damaged = bytearray(path.read_bytes())
    damaged[8 * 4096 : 40 * 4096] = b"\xff" * 32 * 4096
    path.write_bytes(damaged)
    with pytest.raises(StoreError, match=r"damaged|malformed"):
        Store.open_for(path, "kz", LOG)


def test_a_store_of_a_newer_version_is_refused(path):
    Store.open_for(path, "kz", LOG).close()
    with sqlite3.connect(path) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.close()
    with pytest.raises(StoreError, match="update this program"):
        Reader.open(path)


def test_a_store_belongs_to_one_institution_and_one_log(path):
    Store.open_for(path, "kz", LOG).close()
    with pytest.raises(StoreError, match="is the store of kz, not kg"):
        Store.open_for(path, "kg", LOG)
    other = str(note.ed25519_vkey("other/log", builders.public(builders.key("other"))))
    with pytest.raises(StoreError, match="follows another log"):
        Store.open_for(path, "kz", other)
    Store.open_for(path, "kz", LOG).close()


def test_a_transaction_is_whole_or_nothing(store):
    def fail_at_the_end():
        with store.transaction():
            store.add_received(received(1))
            store.set_cursor("receipts", 7)
            store.add_received(received(1, number=2))

    with pytest.raises(StoreError, match="UNIQUE"):
        fail_at_the_end()
    assert store.inbox() == []
    assert store.cursor("receipts", -1) == -1


# --- What we sent ---


def queue(store, number=1, reply_to=None):
    with store.transaction():
        store.add_sent(message_id(number), "activity_bulletin.v1", reply_to, b"envelope", time())
    return store.sent(message_id(number))


def accept(store, sent, index=5):
    with store.transaction():
        store.settle(
            msgspec.structs.replace(
                sent,
                state=SentState.ACCEPTED,
                raw=jsontext.encode(builders.acceptance()),
                index=index,
                entry_hash=b"h" * 32,
                accepted=time(),
                settled=time(1),
            )
        )
        store.expect_receipts(sent.id, {"kg": 1, "tj": 4}, time())


def test_a_message_of_ours_waits_with_the_reason_why_and_is_settled_once(store):
    sent = queue(store)
    with store.transaction():
        store.note_trouble(sent.id, "quota", "Too many.")
    assert (store.sent(sent.id).state, store.sent(sent.id).detail) == ("pending", "Too many.")
    assert store.queued_before(time(1)) == [store.sent(sent.id)]
    assert store.pending() == {sent.id: None}
    assert store.queued_before(time(0)) == []
    accept(store, sent)
    settled = store.sent(sent.id)
    assert (settled.state, settled.index) == (SentState.ACCEPTED, 5)
    assert settled.acceptance == builders.acceptance()
    with store.transaction():
        store.note_trouble(sent.id, "late", "This is no longer of interest.")
    assert store.sent(sent.id) == settled
    assert store.queued_before(time(1)) == []


def test_a_message_takes_the_place_of_a_refused_one_and_of_no_other(store):
    refused = queue(store)
    with store.transaction():
        store.settle(msgspec.structs.replace(refused, state=SentState.REFUSED, code="schema"))
    sent = queue(store)
    assert (sent.state, sent.code) == (SentState.PENDING, None)
    accept(store, sent)
    with pytest.raises(StoreError, match="UNIQUE"):
        queue(store)


def test_receipts_are_waited_for_until_they_come(store):
    sent = queue(store)
    accept(store, sent)
    assert [e.recipient for e in store.waiting_receipts()] == ["kg", "tj"]
    assert store.waiting_receipts(before=time()) == []
    kg = store.expected_of(sent.id, "kg")
    with store.transaction():
        store.settle_expected(msgspec.structs.replace(kg, state="received", index=9, time=time(2)))
        store.add_receipt(RecordedReceipt(9, "kg", b"{}"))
    assert [e.recipient for e in store.waiting_receipts()] == ["tj"]
    assert [e.state for e in store.expected(sent.id)] == ["received", "waiting"]
    assert [r.receiver for r in store.receipts()] == ["kg"]
    assert store.expected_of(sent.id, "tm") is None


# --- What we received ---


def test_positions_that_were_passed_over_are_gaps(store):
    assert store.first_gap() is None
    put(store, received(1, 1), received(2, 2))
    assert store.first_gap() is None
    put(store, received(4, 4), received(7, 7))
    assert (store.first_gap(), store.last_position()) == (3, 7)
    assert [store.first_gap(after) for after in (2, 3, 4, 5, 6, 7, 8)] == [3, 5, 5, 6, *[None] * 3]
    put(store, received(3, 3))
    assert store.first_gap() == 5


def test_the_very_first_position_can_be_missing(store):
    put(store, received(3))
    assert store.first_gap() == 1


def test_a_valid_message_stands_in_the_inbox_once(store):
    put(store, received(1))
    with pytest.raises(StoreError, match="UNIQUE"):
        put(store, received(2))
    put(store, received(2, state=InboxState.INVALID))
    assert store.received(message_id()).position == 1
    assert store.valid(message_id()).position == 1


def test_an_invalid_message_is_found_but_never_as_valid(store):
    put(store, received(1, state=InboxState.INVALID))
    assert store.valid(message_id()) is None
    assert store.received(message_id()).state is InboxState.INVALID


def test_the_envelope_of_a_row_is_the_one_that_was_delivered(store):
    put(store, received(1))
    assert store.at(1).envelope == builders.signed(builders.message())
    assert store.at(1).acceptance == builders.acceptance()


def test_a_tombstone_has_an_acceptance_and_no_envelope(store):
    raw = jsontext.encode(builders.acceptance())
    put(store, received(1, state=InboxState.EXPIRED, raw=raw, status=None))
    assert store.at(1).envelope == b""
    assert store.at(1).acceptance == builders.acceptance()
    assert store.owed(10) == []


def test_receipts_are_owed_by_sender_until_they_are_signed_and_again_offered_until_recorded(store):
    put(
        store,
        received(1, 1, sender="tj"),
        received(2, 2),
        received(3, 3, state=InboxState.INVALID, status="refused", reason="schema: …"),
    )
    assert [(one.sender, one.position, one.status) for one in store.owed(10)] == [
        ("kg", 2, "received"),
        ("kg", 3, "refused"),
    ]
    assert [one.position for one in store.owed(1)] == [2]
    assert [one.sender for one in store.owed(10, "kg")] == ["tj"]
    with store.transaction():
        store.add_answer("kg", b"receipt", [2, 3])
    assert [one.sender for one in store.owed(10)] == ["tj"]
    (number,) = store.pending_answers()
    answer = store.answer(number)
    assert (answer.sender, answer.receipt) == ("kg", b"receipt")
    assert store.status().unanswered == 3
    with store.transaction():
        store.answer_recorded(answer.number, 8, b"{}")
    assert store.pending_answers() == []
    assert store.status().unanswered == 1
    with store.transaction():
        store.owe_again([3])
    assert [one.position for one in store.owed(10)] == [3]
    assert store.status().unanswered == 2


def test_replies_are_found_by_what_they_answer(store):
    mine = queue(store, 1, reply_to=message_id(100))
    assert store.sent_replies(message_id(100)) == []
    accept(store, mine)
    put(
        store,
        received(1, 2, reply_to=message_id(100)),
        received(2, 3, reply_to=message_id(100), state=InboxState.INVALID),
        received(3, 4),
    )
    assert [row.id for row in store.sent_replies(message_id(100))] == [message_id(1)]
    assert [row.id for row in store.received_replies(message_id(100))] == [message_id(2)]


# --- The log ---


def test_the_directory_is_the_one_of_the_followed_log_at_any_point_of_it(store):
    follow(store, *builders.directory_log(kz="member", kg="member"), builders.suspended("kg"))
    assert store.directory().participants["kg"].state == "suspended"
    assert store.directory(4).participants["kg"].state == "active"
    assert set(store.directory(2).participants) == {"kz"}
    assert store.last_directory_change() == 4


def test_what_lies_beyond_the_followed_size_counts_for_nothing(store):
    log = builders.directory_log(kz="member")
    follow(store, *log)
    root = store.root_at(2)
    with store.transaction():
        raw = entries.encode(builders.suspended("kz"))
        edge = store.tiles(merkle.edge_tiles(2))
        store.stage(merkle.append(2, edge, [merkle.leaf_hash(raw)]), [(2, "member.suspended", raw)])
    assert store.directory().participants["kz"].state == "active"
    assert store.last_directory_change() == 1
    assert (store.size(), store.root_at(2)) == (2, root)
    with pytest.raises(merkle.ProofError, match="followed to 2"):
        store.root_at(3)
    with store.transaction():
        store.unstage()
    assert store.log_entries(0, 10) == store.log_entries(0, 2)


def test_a_change_that_nobody_was_entitled_to_is_left_out_of_the_directory(store):
    follow(store, *builders.directory_log(kz="member"), builders.rotated("kz", "new", "thief"))
    assert store.directory().participants["kz"].kid == builders.kid(builders.key("kz"))


# --- Alarms ---


def test_the_same_alarm_is_raised_once_and_again_when_it_was_over(store):
    finding = Finding("receipt-overdue", "a kg", "kg gives no receipt.", {"since": time()})
    assert raised(store, finding) == [finding]
    assert raised(store, finding) == []
    with store.transaction():
        store.end_alarm("receipt-overdue", "a kg", time(1))
    assert store.alarms() == []
    assert [alarm.ended for alarm in store.alarms(ended=True)] == [time(1)]
    assert raised(store, finding) == [finding]
    (alarm,) = store.alarms()
    assert jsontext.parse(alarm.evidence) == {"since": time()}
    assert alarm.severity is Severity.WARNING


def test_an_alarm_waits_to_be_mailed_until_it_was_and_again_when_it_comes_back(store):
    finding = Finding("hub-away", "hub", "It is away.")
    raised(store, finding)
    (first,) = store.unmailed(time())
    with store.transaction():
        store.note_mailed([first], time(1))
    assert store.unmailed(time()) == []
    assert store.last_mailed() == {"hub-away": time(1)}
    with store.transaction():
        store.end_alarm("hub-away", "hub", time(2))
        store.raise_alarms([finding], time(3))
    assert [alarm.time for alarm in store.unmailed(time())] == [time(3)]
    with store.transaction():
        store.note_mailed([first], time(4))  # the letter was about the first time
    assert len(store.unmailed(time())) == 1
    with store.transaction():
        store.end_alarm("hub-away", "hub", time(5))
    assert len(store.unmailed(time(5))) == 1
    assert store.unmailed(time(6)) == []


def test_what_keeps_mails_is_known_since_when_and_until_it_is_over(store):
    with store.transaction():
        store.note_mail_trouble("No route.", time(1))
        store.note_mail_trouble("Refused.", time(2))
    assert store.mail_trouble() == MailTrouble(time(1), "Refused.")
    with store.transaction():
        store.end_mail_trouble()
    assert store.mail_trouble() is None


def test_a_store_of_the_first_version_is_brought_up_and_keeps_its_alarms(path):
    with Store.open_for(path, "kz", LOG) as store:
        raised(store, Finding("hub-away", "hub", "It is away."))
    with sqlite3.connect(path) as connection:
        for statement in (
            *(f"DROP TABLE {name}" for name in ("cosigned", "erased", "mail_trouble", "recent")),
            *(f"ALTER TABLE alarms DROP COLUMN {name}" for name in ("mailed", "taken")),
            "PRAGMA user_version = 1",
        ):
            connection.execute(statement)
    connection.close()
    with Store.open_for(path, "kz", LOG) as store:
        assert [alarm.kind for alarm in store.unmailed(time())] == ["hub-away"]
        assert store.cosigned() is None


def raised(store, finding):
    with store.transaction():
        return store.raise_alarms([finding], time())


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_alarm_says_what_it_means_and_what_to_do(kind):
    row = KINDS[kind]
    assert row.title
    assert row.advice.endswith(".")


def test_what_a_stranger_put_into_an_alarm_cannot_turn_a_line_around():
    finding = Finding("log-forked", "\u202ex", "line\nfeed \x1b[31m" + "x" * 1000)
    assert finding.subject == "\\u202ex"
    assert finding.sentence.startswith("line\\nfeed \\x1b[31mxxx")
    assert len(finding.sentence) < 600


class TestRecentEntries:
    """Entries are kept for some time, for a hub that loses them."""

    def follow(self, store, first, count):
        raws = [f"entry {number}".encode() for number in range(first + count)]
        changed = merkle.append(0, {}, [merkle.leaf_hash(raw) for raw in raws])
        root = merkle.tree_root(len(raws), changed)
        with store.transaction():
            store.stage(changed, [], [*enumerate(raws)][first:])
            store.set_followed(Followed(len(raws), root, b"", len(raws), ""))

    def test_are_given_from_an_index_on(self, store):
        self.follow(store, 0, 5)
        assert store.recent(3, 256) == [b"entry 3", b"entry 4"]
        assert store.recent(1, 2) == [b"entry 1", b"entry 2"]
        assert store.recent(5, 256) == []

    def test_are_given_only_up_to_what_is_believed(self, store):
        self.follow(store, 0, 5)
        with store.transaction():
            store.stage({}, [], [(5, b"unproven")])
        assert store.recent(4, 256) == [b"entry 4"]
        with store.transaction():
            store.unstage()
        self.follow(store, 5, 1)
        assert store.recent(4, 256) == [b"entry 4", b"entry 5"]

    def test_are_not_given_with_a_gap(self, store):
        self.follow(store, 2, 3)
        assert store.recent(1, 256) == []
        assert store.recent(2, 256) == [b"entry 2", b"entry 3", b"entry 4"]

    def test_are_forgotten_in_time(self, store, monkeypatch):
        monkeypatch.setattr("connectors.store.RECENT", 3)
        self.follow(store, 0, 10)
        assert store.recent(6, 256) == []
        assert store.recent(7, 256) == [b"entry 7", b"entry 8", b"entry 9"]
