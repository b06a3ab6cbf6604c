"""The state of a joint action: the same for everybody, whatever arrives in which order."""

from hypothesis import given
from hypothesis import strategies as st

from schemas import joint_action
from schemas.joint_action import ENDED, Answer
from schemas.kinds.joint_action_response import ANSWERS
from schemas.refusal import Refused
from tests.builders import joint_action_notice, time

PROPOSER = "kz"
DEADLINE = 60
"""Minutes after the notice."""

notices = st.lists(st.sampled_from(["kg", "tj", "tm"]), min_size=1, unique=True).map(
    lambda invited: joint_action_notice(invited=invited, answer_by=time(DEADLINE))
)
# Mostly what could be; now and then late, uninvited, or a step of somebody who did not propose.
said = st.one_of(
    st.tuples(st.sampled_from(["kg", "tj", "tm", "uz"]), st.sampled_from(ANSWERS)),
    st.tuples(st.just(PROPOSER), st.sampled_from(["start", "conclude", "cancel"])),
    st.tuples(
        st.sampled_from(["kz", "kg", "undp"]), st.sampled_from(["accept", "start", "cancel"])
    ),
)
minutes = st.sampled_from([0, 30, DEADLINE, DEADLINE + 1])


@st.composite
def logs(draw):
    """Answers in the order of the log."""
    spoken = draw(st.lists(st.tuples(said, minutes), max_size=12))
    return [
        Answer(index * 3, time(at), who, what, f"message {index}")
        for index, ((who, what), at) in enumerate(spoken)
    ]


def evaluate(notice, answers):
    return joint_action.evaluate(PROPOSER, notice, answers)


def oracle(notice, answers):
    """The state told as a story, without tables; and what each institution says in the end."""
    opinions: dict[str, str] = {}
    started = False
    for answer in answers:
        mine = answer.member == PROPOSER
        timely = answer.member in notice.invited and answer.time <= notice.answer_by
        match answer.answer:
            case "cancel" if mine:
                return "cancelled", opinions
            case "conclude" if mine and started:
                return "concluded", opinions
            case "start" if mine:
                started = started or any(o != "decline" for o in opinions.values())
            case "withdraw" if timely:
                opinions.pop(answer.member, None)
            case "accept" | "accept_with_reservation" | "decline" if timely:
                opinions[answer.member] = answer.answer
    if started:
        return "under_way", opinions
    against = sum(opinion == "decline" for opinion in opinions.values())
    in_favour = len(opinions) - against
    if in_favour == len(notice.invited):
        return "agreed", opinions
    if against == len(notice.invited):
        return "declined", opinions
    return ("partly_agreed" if in_favour else "proposed"), opinions


@given(notices, logs())
def test_the_state_is_the_one_the_story_tells(notice, log):
    found = evaluate(notice, log)
    opinions = {member: answer.answer for member, answer in found.answers.items()}
    assert (found.state, opinions) == oracle(notice, log)


@given(notices, logs(), st.randoms(use_true_random=False))
def test_the_order_of_arrival_changes_nothing(notice, log, random):
    shuffled = list(log)
    random.shuffle(shuffled)
    assert evaluate(notice, shuffled) == evaluate(notice, log)
    assert evaluate(notice, iter(shuffled)) == evaluate(notice, log)


@given(notices, logs(), st.integers(0, 12))
def test_an_end_is_final(notice, log, cut):
    before = evaluate(notice, log[:cut])
    if before.state in ENDED:
        assert evaluate(notice, log) == before


@given(notices, logs())
def test_late_and_uninvited_answers_change_nothing(notice, log):
    counting = [
        answer
        for answer in log
        if answer.answer not in ANSWERS
        or (answer.member in notice.invited and answer.time <= notice.answer_by)
    ]
    assert evaluate(notice, log) == evaluate(notice, counting)


@given(notices, logs())
def test_steps_of_others_change_nothing(notice, log):
    own = [answer for answer in log if answer.answer in ANSWERS or answer.member == PROPOSER]
    assert evaluate(notice, log) == evaluate(notice, own)


@given(notices, logs())
def test_an_answer_is_admitted_exactly_when_it_counts(notice, log):
    """What the hub lets in is what everybody counts; what it refuses would change nothing."""
    for place, new in enumerate(log):
        earlier = log[:place]
        before, after = evaluate(notice, earlier), evaluate(notice, log[: place + 1])
        try:
            joint_action.check_answer(PROPOSER, notice, earlier, new)
        except Refused:
            assert after == before
        else:
            assert after != before
