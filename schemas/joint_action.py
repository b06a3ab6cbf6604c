"""Joint actions: the state that follows from the answers alone, the same everywhere.

The answers are taken in the order of the log, whatever order they arrived in. An answer counts when
its institution was invited, its acceptance is not after the date to answer by, and the action has
not ended. Of one institution's answers the one with the greatest log index counts. The proposer's
steps follow ``STEPS``; a step that the table does not allow changes nothing.
"""

from collections.abc import Iterable, Mapping
from enum import StrEnum
from types import MappingProxyType

import msgspec

from schemas import jsontext, signature
from schemas.kinds.joint_action_notice import JointActionNotice
from schemas.kinds.joint_action_response import ANSWERS
from schemas.refusal import Refused
from schemas.signature import MESSAGE_TYPE, JwsEnvelope, JwsSignature


class ActionState(StrEnum):
    """The seven states of a joint action."""

    PROPOSED = "proposed"
    AGREED = "agreed"
    PARTLY_AGREED = "partly_agreed"
    DECLINED = "declined"
    UNDER_WAY = "under_way"
    CONCLUDED = "concluded"
    CANCELLED = "cancelled"


# (how many of the invited accepted, how many declined) -> state, before the proposer's steps
AGREEMENT: Mapping[tuple[str, str], ActionState] = MappingProxyType(
    {
        ("none", "none"): ActionState.PROPOSED,
        ("none", "some"): ActionState.PROPOSED,
        ("none", "all"): ActionState.DECLINED,
        ("some", "none"): ActionState.PARTLY_AGREED,
        ("some", "some"): ActionState.PARTLY_AGREED,
        ("all", "none"): ActionState.AGREED,
    }
)

# (state, proposer's step) -> state; what is missing is not allowed
STEPS: Mapping[tuple[ActionState, str], ActionState] = MappingProxyType(
    {
        (ActionState.AGREED, "start"): ActionState.UNDER_WAY,
        (ActionState.PARTLY_AGREED, "start"): ActionState.UNDER_WAY,
        (ActionState.UNDER_WAY, "conclude"): ActionState.CONCLUDED,
        (ActionState.PROPOSED, "cancel"): ActionState.CANCELLED,
        (ActionState.AGREED, "cancel"): ActionState.CANCELLED,
        (ActionState.PARTLY_AGREED, "cancel"): ActionState.CANCELLED,
        (ActionState.DECLINED, "cancel"): ActionState.CANCELLED,
        (ActionState.UNDER_WAY, "cancel"): ActionState.CANCELLED,
    }
)

ENDED = frozenset({ActionState.CONCLUDED, ActionState.CANCELLED})


class Answer(msgspec.Struct, frozen=True):
    """One accepted response, as the log has it. ``time`` is the acceptance's."""

    index: int
    time: str
    member: str
    answer: str
    message_id: str = ""


class Action(msgspec.Struct, frozen=True):
    """A notice with what was answered: the state, and the counting answer of each institution."""

    state: ActionState
    answers: Mapping[str, Answer]


def _share(count: int, of: int) -> str:
    return "none" if count == 0 else "all" if count == of else "some"


def _agreement(invited: int, answers: Mapping[str, Answer]) -> ActionState:
    given = [answer.answer for answer in answers.values()]
    accepted = sum(answer.startswith("accept") for answer in given)
    return AGREEMENT[_share(accepted, invited), _share(given.count("decline"), invited)]


def evaluate(proposer: str, notice: JointActionNotice, answers: Iterable[Answer]) -> Action:
    """The state of a joint action, from its notice and any number of answers in any order."""
    counting: dict[str, Answer] = {}
    state = ActionState.PROPOSED
    for answer in sorted(answers, key=lambda answer: answer.index):
        if state in ENDED:
            break
        if answer.answer in ANSWERS:
            if answer.member not in notice.invited or answer.time > notice.answer_by:
                continue
            if answer.answer == "withdraw":
                counting.pop(answer.member, None)
            else:
                counting[answer.member] = answer
            if state is not ActionState.UNDER_WAY:
                state = _agreement(len(notice.invited), counting)
        elif answer.member == proposer:
            state = STEPS.get((state, answer.answer), state)
    return Action(state, counting)


def check_answer(
    proposer: str, notice: JointActionNotice, earlier: Iterable[Answer], new: Answer
) -> None:
    """Whether an answer may be recorded now, after the earlier ones.

    Raises:
        Refused: ``not-proposer``, ``not-invited``, ``answer-late`` or ``action-state``.
    """
    action = evaluate(proposer, notice, earlier)
    if new.answer not in ANSWERS:
        if new.member != proposer:
            raise Refused("not-proposer", f"Only {proposer} can {new.answer} this action.")
        if (action.state, new.answer) not in STEPS:
            raise Refused("action-state", f"It is {action.state}: {new.answer} does not fit.")
        return
    if new.member not in notice.invited:
        raise Refused("not-invited", f"Invited were {', '.join(notice.invited)}.")
    if new.time > notice.answer_by:
        raise Refused("answer-late", f"Answers were due by {notice.answer_by}.")
    if action.state in ENDED:
        raise Refused("action-state", f"The action is {action.state}.")
    if new.answer == "withdraw" and new.member not in action.answers:
        raise Refused("action-state", "There is no answer to withdraw.")


def assemble(notice: JwsEnvelope, signatures: Iterable[JwsSignature]) -> bytes:
    """One envelope over the notice's payload with the proposer's and all co-signatures.

    Raises:
        Refused: more than 16 signatures, or one key twice.
    """
    merged = list(dict.fromkeys([*notice.signatures, *signatures]))
    raw = jsontext.encode(JwsEnvelope(notice.payload, merged))
    signature.parse(raw, MESSAGE_TYPE)
    return raw
