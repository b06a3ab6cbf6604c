"""The directory under any log: an impossible entry is an error, and never are there two keys."""

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import entry as entries
from schemas.directory import Directory, DirectoryError, State
from tests import builders
from tests.builders import (
    directory_log,
    entry,
    group,
    held,
    invited,
    joined,
    key,
    kid,
    replaced,
    resumed,
    revoked,
    rotated,
    stated,
    suspended,
    time,
)

CODES = ("kz", "kg")
SEEDS = ("one", "two", "three")
"""Keys that both participants try to register: whoever is first has them."""

# Every entry with the seed of the key that it registers, if it registers one.


def honest(code):
    """What may come at some time or other."""
    yield suspended(code), None
    yield resumed(code), None
    yield group("net", code), None
    for name in (code, "again"):
        yield invited(code, name=name), None
        yield held(code, name), None
        for seed in SEEDS:
            yield joined(code, seed, name), seed
            yield replaced(code, seed, name), seed
    for seed in (code, *SEEDS):
        yield revoked(code, seed), None
        yield revoked(code, seed, by=seed), None
        for new in SEEDS:
            yield rotated(code, new, previous=seed), new
            yield rotated(code, new, previous=seed, expires=time(60)), new


def forged(code, other):
    """What no log may hold at any time."""
    yield invited("region")
    yield invited(code.upper())
    yield group("hub", code)
    yield group(code, other)
    yield group("net", "nobody")
    yield revoked(code, "one", by="thief")
    yield stated(entries.KEY_ROTATED, code, b"{}")
    yield rotated(code, "thief", previous="thief")
    yield entry(entries.MEMBER_HELD, code, {"invitation": 1})
    for seed in SEEDS:
        yield stated(entries.MEMBER_JOINED, code, builders.join(other, seed))
        yield stated(entries.KEY_REPLACED, code, builders.join(other, seed, code))


HERE = [
    (made, seed)
    for code in CODES
    for made, seed in zip(directory_log(**{code: "member"}), (None, code), strict=True)
]
HONEST = [made for code in CODES for made in honest(code)]
FORGED = [*forged("kz", "kg"), *forged("kg", "kz")]

logs = st.lists(st.sampled_from(HONEST), max_size=50).map(lambda log: [*HERE, *log])


def folded(log):
    """Each entry, whether it was believed, and the directory after it.

    One that cannot be is not believed and changes nothing, as in a connector.
    """
    directory = Directory()
    for index, (made, seed) in enumerate(log):
        try:
            directory = directory.apply(index, made)
        except DirectoryError:
            yield made, seed, False, directory
        else:
            yield made, seed, True, directory


def last(log):
    return list(folded(log))[-1][-1]


def holding(directory, code, index):
    """The seeds of a participant's keys that hold at an index."""
    seeds = {kid(key(seed)): seed for seed in (*CODES, *SEEDS)}
    mine = [k for k in directory.keys.values() if k.member == code]
    return [seeds[k.kid] for k in mine if k.valid_at(index, time())]


@given(logs)
def test_at_most_one_signing_key_of_a_participant_holds_at_an_index(log):
    directory = last(log)
    for code in CODES:
        for index in range(len(log) + 1):
            assert len(holding(directory, code, index)) <= 1


@given(logs)
def test_the_key_that_holds_is_the_last_one_registered_and_not_ended_since(log):
    """An oracle that goes by the kinds of entries alone."""
    current: dict[str, list[str]] = {code: [] for code in CODES}
    history = []
    for made, seed, believed, _ in folded(log):
        if believed and seed:
            current[made.subject] = [seed]
        elif believed and made.type in {entries.MEMBER_HELD, entries.KEY_REVOKED}:
            current[made.subject] = []
        history.append(dict(current))
    directory = last(log)
    for index, expected in enumerate(history):
        assert {code: holding(directory, code, index) for code in CODES} == expected


@settings(max_examples=25)
@given(logs)
def test_what_the_directory_says_of_the_past_never_changes(log):
    past: list[dict[str, list[str]]] = []
    for *_, directory in folded(log):
        told = [
            {code: holding(directory, code, index) for code in CODES} for index in range(len(past))
        ]
        assert told == past
        past.append({code: holding(directory, code, len(past)) for code in CODES})


@given(logs)
def test_a_key_belongs_to_one_participant_for_ever(log):
    owners: dict[str, str] = {}
    for *_, directory in folded(log):
        found = {k.kid: k.member for k in directory.keys.values()}
        assert owners.items() <= found.items()
        owners = found


@given(logs)
def test_the_state_fits_the_keys(log):
    for index, (*_, directory) in enumerate(folded(log)):
        for code in CODES:
            participant = directory.participants.get(code)
            if participant is None:
                continue
            current = [kid(key(seed)) for seed in holding(directory, code, index)]
            assert current == ([participant.kid] if participant.kid else [])
            if participant.state in {State.INVITED, State.HELD}:
                assert current == []


@given(logs)
def test_codes_of_participants_and_groups_are_one_namespace(log):
    directory = last(log)
    assert not directory.participants.keys() & directory.groups.keys()
    for members in directory.groups.values():
        assert set(members) <= directory.participants.keys()


@settings(max_examples=20)
@given(logs)
def test_a_forged_entry_is_believed_at_no_time(log):
    directory = last(log)
    for made in FORGED:
        try:
            directory.apply(len(log), made)
        except DirectoryError:
            continue
        raise AssertionError(f"{made} was believed")


@given(logs)
def test_the_log_survives_the_wire(log):
    assert last([(entries.decode(entries.encode(made)), seed) for made, seed in log]) == last(log)
