"""Which subscriptions want a message: those that asking each would give, with few of them asked."""

import itertools
import random

import pytest

from hub.delivery.schedule import Endpoint, EndpointState
from hub.delivery.subscription import Filter, Generation, Subscription, terms
from hub.delivery.wishes import Wishes
from schemas import message
from tests import builders
from tests.builders import message_id

DIRECTORY = builders.directory()
EVERYBODY = frozenset(builders.ROLES)
NUMBERS = itertools.count(1)


def subscription(owner="undp", **wished):
    number = next(NUMBERS)
    return Subscription(
        *(message_id(number), owner, f"https://{number}.example.org/", Filter(**wished), False),
        *((Generation(1),), Endpoint(EndpointState.ACTIVE), 0, builders.time()),
    )


def bulletin(**overrides):
    return message.parse(builders.payload(builders.message(**overrides)))


def wanting(subscriptions, sent, recipients=EVERYBODY):
    return {each.id for each in Wishes(subscriptions).of(sent, recipients, DIRECTORY)}


def some(chance, values, most=3):
    """None of these values, or a few."""
    return tuple(chance.sample(values, chance.choice((0, 0, chance.randint(1, most)))))


def wished(chance):
    """Any filter."""
    return {
        "senders": some(chance, ["kz", "kg", "tj"]),
        "kinds": some(chance, ["activity_bulletin", "activity_bulletin.v1", "joint_action_notice"]),
        "themes": some(chance, ["women", "torture_prevention", "places_of_detention"]),
        "sdgs": some(chance, [5, 16, "5.2", "16.3"]),
        "markings": some(chance, ["TLP:CLEAR", "TLP:GREEN"], 2),
        "threads": some(chance, [message_id(n) for n in (7, 8, 9)]),
        "languages": some(chance, ["en", "uz", "uz-Latn"]),
    }


MESSAGES = [
    bulletin(),
    bulletin(id=message_id(7), sender="kg", themes=["women"], sdgs=["5.2"]),
    bulletin(thread=message_id(8), sdgs=[5], texts={"uz-Latn": {"title": "Tashrif"}}),
    message.parse(builders.payload(builders.notice())),
    message.parse(builders.payload(builders.response())),
]


@pytest.mark.parametrize("seed", range(5))
def test_they_are_those_whose_filter_takes_it(seed):
    chance = random.Random(seed)
    made = [subscription(**wished(chance)) for _ in range(400)]
    for sent in MESSAGES:
        expected = {each.id for each in made if each.filter.passes_over(terms(sent)) is None}
        assert expected
        assert wanting(made, sent) == expected


def test_a_message_asks_few_of_a_thousand_filters_and_equal_ones_once(monkeypatch):
    asked = []
    usual = Filter.passes_over

    def counted(self, having):
        asked.append(self)
        return usual(self, having)

    monkeypatch.setattr(Filter, "passes_over", counted)
    senders = [code for code in builders.ROLES if code != "kz"]
    made = [
        subscription(senders=(sender,), sdgs=(n % 17 + 1,))
        for n, sender in zip(range(1_000), itertools.cycle(senders), strict=False)
    ]
    alike = [subscription(senders=("kz",)) for _ in range(50)]
    assert wanting(made + alike, bulletin()) == {each.id for each in alike}
    assert asked == [Filter(senders=("kz",))]


@pytest.mark.parametrize(
    ("owner", "marking", "recipients", "may"),
    [
        ("undp", "TLP:GREEN", {"undp"}, True),
        ("undp", "TLP:GREEN", {"kg"}, False),
        ("undp", "TLP:CLEAR", {"kg"}, True),
        ("undp", "TLP:AMBER", {"undp"}, False),
        ("kg", "TLP:AMBER", {"kg"}, True),
        ("kg", "TLP:AMBER+STRICT", {"kg"}, False),
        ("kz", "TLP:CLEAR", {"kg"}, False),
        ("nobody", "TLP:CLEAR", {"kg"}, False),
    ],
)
def test_the_owner_has_to_be_one_who_may_have_it(owner, marking, recipients, may):
    made = subscription(owner)
    found = wanting([made], bulletin(marking=marking), frozenset(recipients))
    assert found == ({made.id} if may else set())
