"""Routing under any directory, audience and marking: nobody too many, nobody forgotten."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import routing
from schemas.directory import Directory, Participant, State
from schemas.refusal import Refused
from schemas.routing import Routing

CODES = ("aa", "bb", "cc", "dd", "ee")
NETWORKS = ("net", "nest")
SENDER = "kz"

# TLP 2.0 as the exchange has it, written down once more: roles, and whether groups may stand.
RULES = {
    "TLP:CLEAR": ({"member", "partner", "observer"}, True),
    "TLP:GREEN": ({"member", "partner", "observer"}, True),
    "TLP:AMBER": ({"member"}, True),
    "TLP:AMBER+STRICT": ({"member"}, False),
    "TLP:RED": ({"member"}, False),
}
markings = st.sampled_from(list(RULES))
audiences = st.lists(
    st.sampled_from([*CODES, *NETWORKS, "region", "partners"]), min_size=1, unique=True
)


@st.composite
def directories(draw):
    participants = {SENDER: Participant(SENDER, "member", State.ACTIVE, {})}
    for code in draw(st.lists(st.sampled_from(CODES), unique=True)):
        role = draw(st.sampled_from(["member", "partner", "observer"]))
        state = draw(st.sampled_from([State.ACTIVE] * 3 + list(State)))
        participants[code] = Participant(code, role, state, {})
    members = st.lists(st.sampled_from(list(participants)), unique=True).map(tuple)
    groups = draw(st.dictionaries(st.sampled_from(NETWORKS), members))
    return Directory(participants=participants, groups=groups)


def routed(audience, marking, directory):
    """Recipients and left out, or the code of the refusal."""
    try:
        return routing.route(audience, marking, SENDER, directory)
    except Refused as refusal:
        return refusal.code


def groups_of(directory):
    """Every group with its members, by going through all participants."""
    everybody = directory.participants.values()
    members = {name: set(listed) for name, listed in directory.groups.items()}
    members["region"] = {p.code for p in everybody if p.role == "member"}
    members["partners"] = {p.code for p in everybody if p.role == "partner"}
    not_here = {p.code for p in everybody if p.state == "invited"}
    return {name: listed - not_here for name, listed in members.items()}


def verdict(participant, audience, groups, roles):
    """What becomes of one participant: (recipient?, reason), or None where it is not addressed."""
    named = participant.code in audience
    via = [name for name in audience if participant.code in groups.get(name, ())]
    if not named and not via:
        return None
    if participant.code == SENDER:
        return False, "sender"
    if participant.role not in roles:
        return False, "marking"
    if participant.state == "suspended":
        return False, "suspended"
    return True, "named" if named else f"group:{via[0]}"


def oracle(audience, marking, directory):
    """The same answer, asked participant by participant instead of code by code."""
    roles, groups_allowed = RULES[marking]
    groups = groups_of(directory)
    people = directory.participants
    wrong = set()
    for code in audience:
        if code in groups:
            wrong |= set() if groups_allowed else {"marking-conflict"}
        elif code not in people or people[code].state == "invited":
            wrong.add("unknown-recipient")
        elif people[code].role not in roles:
            wrong.add("marking-conflict")
    if wrong:
        return wrong
    found = {p.code: verdict(p, audience, groups, roles) for p in people.values()}
    recipients = {code: v[1] for code, v in found.items() if v and v[0]}
    left_out = {code: v[1] for code, v in found.items() if v and not v[0]}
    return Routing(recipients, left_out) if recipients else {"no-recipient"}


@given(audiences, markings, directories())
def test_the_answer_is_that_of_the_oracle(audience, marking, directory):
    found, expected = routed(audience, marking, directory), oracle(audience, marking, directory)
    if isinstance(expected, Routing):
        assert found == expected
    else:
        assert found in expected


@given(audiences, markings, directories())
def test_nobody_forbidden_by_the_marking_ever_receives(audience, marking, directory):
    found = routed(audience, marking, directory)
    if isinstance(found, Routing):
        roles, _ = RULES[marking]
        for code in found.recipients:
            assert directory.participants[code].role in roles
            assert directory.participants[code].state in {"active", "held"}
            assert code != SENDER


@given(audiences, markings, directories())
def test_everybody_addressed_is_either_a_recipient_or_left_out_with_a_reason(
    audience, marking, directory
):
    found = routed(audience, marking, directory)
    if isinstance(found, Routing):
        groups = groups_of(directory)
        addressed = {c for code in audience for c in groups.get(code, {code})}
        assert addressed == found.recipients.keys() | found.left_out.keys()
        assert not found.recipients.keys() & found.left_out.keys()
        assert all([*found.recipients.values(), *found.left_out.values()])


@given(audiences, markings, directories(), st.randoms(use_true_random=False))
def test_the_order_of_the_audience_does_not_matter_to_who_receives(
    audience, marking, directory, random
):
    shuffled = list(audience)
    random.shuffle(shuffled)
    found, other = (routed(a, marking, directory) for a in (audience, shuffled))
    assert isinstance(found, Routing) == isinstance(other, Routing)
    if isinstance(found, Routing) and isinstance(other, Routing):
        assert found.recipients.keys() == other.recipients.keys()
        assert found.left_out == other.left_out


@given(audiences, directories())
def test_a_closer_marking_never_reaches_more(audience, directory):
    reached = None
    for marking in RULES:
        found = routed(audience, marking, directory)
        recipients = set(found.recipients) if isinstance(found, Routing) else set()
        assert reached is None or recipients <= reached
        reached = recipients
