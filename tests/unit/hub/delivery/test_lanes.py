"""Who gets a new message in the common publish, who is fed, and what a crash forgets."""

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from hub.delivery.lanes import MAX_OUTSTANDING, Lane, Lanes


def lanes(max_outstanding=10, **numbers):
    """Lanes of recipients: (published, last, outstanding)."""
    made = {code: Lane(*three, parked=False) for code, three in numbers.items()}
    return Lanes(made, max_outstanding)


def test_the_bound_of_a_queue_is_the_agreed_one():
    assert MAX_OUTSTANDING == 1_000


class TestANewMessage:
    def test_goes_to_everybody_who_is_up_to_date(self):
        both = lanes(kz=(4, 4, 0), kg=(7, 7, 3))
        assert both.take(0, {"kz": 5, "kg": 8}) == {"kz": 5, "kg": 8}
        assert both.to_feed() == []
        assert both.outstanding() == {"kz": 1, "kg": 4}

    def test_leaves_out_who_is_behind(self):
        both = lanes(kz=(3, 4, 0), kg=(7, 7, 0))
        assert both.take(0, {"kz": 5, "kg": 8}) == {"kg": 8}
        assert both.to_feed() == ["kz"]
        assert both["kz"].last == 5

    def test_leaves_out_who_is_full(self):
        full = lanes(kz=(10, 10, 10))
        assert full.take(0, {"kz": 11}) == {}
        assert (full.to_feed(), full.without_room()) == ([], ["kz"])

    def test_leaves_out_whose_queue_was_never_seen(self):
        assert lanes().take(0, {"kz": 1}) == {}

    def test_that_another_hub_recorded_before_it_makes_a_lane_fall_behind(self):
        assert lanes(kz=(4, 4, 0)).take(0, {"kz": 6}) == {}


class TestAFullRecipient:
    def test_is_fed_again_when_half_of_its_copies_have_receipts(self):
        full = lanes(kz=(10, 30, 10))
        full.settle({"kz": 4})
        assert full.to_feed() == []
        full.settle({"kz": 1})
        assert full.to_feed() == ["kz"]

    def test_is_fed_after_who_is_less_far_in_the_log(self):
        three = lanes(kz=(1, 9, 0), kg=(1, 9, 0), tj=(1, 9, 0))
        three["kz"].advance(2, 700)
        three["kg"].advance(2, 300)
        assert three.to_feed() == ["tj", "kg", "kz"]

    def test_is_fed_together_with_who_is_near(self):
        three = lanes(kz=(1, 9, 0), kg=(1, 9, 0), tj=(1, 9, 0))
        three["kz"].advance(2, 7000)
        three["kg"].advance(2, 7100)
        assert sorted(three.near("kz")) == ["kg", "kz"]
        assert three.near("tj") == ["tj"]

    def test_meets_others_at_the_same_place_and_goes_on_with_them(self):
        three = lanes(kz=(3, 9, 0), kg=(5, 9, 0), tj=(2, 9, 0))
        assert three.take(40, {"kz": 4, "kg": 6, "tj": 4}) == {"kz": 4, "kg": 6}

    def test_is_live_again_once_it_has_caught_up(self):
        one = lanes(kz=(9, 10, 0))
        one["kz"].advance(10, 0)
        assert one.to_feed() == []
        assert one.take(0, {"kz": 11}) == {"kz": 11}

    def test_never_owes_less_than_nothing(self):
        one = lanes(kz=(1, 1, 1))
        one.settle({"kz": 5})
        assert one.outstanding() == {}


class TestAnUnconfirmedMessage:
    def test_is_not_saved_as_published(self):
        one = lanes(kz=(4, 4, 0))
        one.take(0, {"kz": 5})
        one.take(0, {"kz": 6})
        assert one.cursors() == {"kz": 4}
        one.confirm({"kz": 6})
        assert one.cursors() == {"kz": 4}
        one.confirm({"kz": 5})
        assert one.cursors() == {"kz": 6}

    def test_that_is_given_back_is_fed_with_all_that_came_after_it(self):
        one = lanes(kz=(4, 4, 0))
        for position in (5, 6, 7):
            one.take(0, {"kz": position})
        one.confirm({"kz": 5})
        one.give_back({"kz": 6})
        assert (one["kz"].published, one.outstanding(), one.cursors()) == (5, {"kz": 1}, {"kz": 5})
        assert one.to_feed() == ["kz"]

    def test_can_be_given_back_twice(self):
        one = lanes(kz=(4, 4, 0))
        one.take(0, {"kz": 5})
        one.give_back({"kz": 5})
        one.give_back({"kz": 5})
        assert (one["kz"].published, one.outstanding()) == (4, {})


class TestAStuckLane:
    def test_falls_behind_and_is_fed_when_it_works_again(self):
        stuck = {"tj"}
        both = Lanes({code: Lane(4, 4, 0, parked=False) for code in ("kz", "tj")}, 10, stuck)
        assert both.take(0, {"kz": 5, "tj": 5}) == {"kz": 5}
        assert both.to_feed() == []
        stuck.clear()
        assert both.to_feed() == ["tj"]
        assert both.take(0, {"kz": 5, "tj": 5}) == {"tj": 5}


class TestAParkedLane:
    def test_is_one_that_is_full_while_nobody_takes_anything(self):
        one = lanes(kz=(10, 30, 0))
        assert one.survey("kz", waiting=10, consumers=0) is False
        assert (one.to_feed(), one.take(0, {"kz": 31})) == ([], {})

    def test_is_freed_when_somebody_comes_or_the_queue_is_emptied(self):
        for waiting, consumers in ((10, 1), (9, 0)):
            one = lanes(kz=(10, 30, 0))
            one.survey("kz", waiting=10, consumers=0)
            assert one.survey("kz", waiting, consumers) is True
            assert one.to_feed() == ["kz"]

    def test_is_not_one_of_who_is_full_and_slow(self):
        one = lanes(kz=(10, 30, 0))
        assert one.survey("kz", waiting=10, consumers=1) is False
        assert one.to_feed() == ["kz"]

    def test_of_a_new_participant_is_freed_when_its_queue_is_there(self):
        new = lanes()
        new.take(0, {"kz": 1})
        assert new.survey("kz", waiting=0, consumers=0) is True
        assert new.to_feed() == ["kz"]


class TestPublishingAgain:
    def test_begins_at_the_first_without_a_receipt(self):
        one = lanes(kz=(10, 10, 3))
        one["kz"].restart(8)
        assert (one["kz"].published, one.outstanding(), one.to_feed()) == (7, {}, ["kz"])

    def test_is_of_what_has_no_receipt_up_to_where_the_broker_had_all(self):
        one = lanes(kz=(10, 12, 3))
        one["kz"].restart(8)
        assert one["kz"].again == 10
        assert one.take(0, {"kz": 8}) == {"kz": 8}
        assert one.take(0, {"kz": 9}, {"kz"}) == {}
        assert (one["kz"].published, one["kz"].again) == (9, 10)
        assert one.take(0, {"kz": 10}) == {"kz": 10}
        assert one["kz"].again == 0

    def test_is_each_recipient_s_own(self):
        two = lanes(kz=(10, 12, 3), kg=(10, 12, 0))
        assert sorted(two.near("kz")) == ["kg", "kz"]
        two["kz"].restart(8)
        assert (two.near("kz"), two.near("kg")) == (["kz"], ["kg"])


class TestADatabaseThatWentBack:
    """What it has forgotten is assigned once more: to other messages."""

    def test_sets_back_the_lanes_of_whom_it_gave_more_before(self):
        three = lanes(kz=(20, 20, 4), kg=(7, 20, 0), tj=(5, 5, 0))
        three.set_back(three.lasts(["kz", "kg", "tj"]), {"kz": 18, "kg": 10, "tj": 5})
        assert three.cursors() == {"kz": 18, "kg": 7, "tj": 5}
        assert three.outstanding() == {"kz": 2}
        assert three.to_feed() == ["kg"]
        assert three.take(0, {"kz": 19, "kg": 11, "tj": 6}) == {"kz": 19, "tj": 6}

    def test_sets_back_who_has_nothing_in_it_any_more(self):
        one = lanes(kz=(3, 3, 3))
        one.take(0, {"kz": 4})
        one.set_back(one.lasts(["kz"]), {})
        assert (one.cursors(), one.outstanding()) == ({"kz": 0}, {})
        assert one.take(0, {"kz": 1}) == {"kz": 1}

    def test_is_not_one_in_which_nobody_has_looked_yet_for_what_is_new(self):
        one = lanes(kz=(4, 4, 0))
        before = one.lasts(["kz"])
        one.take(0, {"kz": 5})
        one.set_back(before, {"kz": 4})
        assert (one["kz"].published, one["kz"].last) == (5, 5)


class OneRecipient(RuleBasedStateMachine):
    """A broker that takes, loses and forgets, and a hub that crashes: nothing is left out."""

    limit = 4

    def __init__(self):
        super().__init__()
        self.last = 0
        self.saved = 0
        self.on_broker: set[int] = set()
        self.receipted: set[int] = set()
        self.flying: list[int] = []
        self.begin()

    def begin(self):
        known = range(1, self.saved + 1)
        outstanding = len([p for p in known if p not in self.receipted])
        self.lanes = Lanes({"kz": Lane(self.saved, self.last, outstanding, parked=False)}, 4)

    @rule()
    def a_message_comes(self):
        self.last += 1
        self.flying += self.lanes.take(0, {"kz": self.last}).values()

    @rule()
    def it_is_fed(self):
        if self.lanes.to_feed():
            lane = self.lanes["kz"]
            lane.advance(lane.published + 1, 0)
            self.flying.append(lane.published)

    @precondition(lambda self: self.flying)
    @rule()
    def the_broker_confirms(self):
        position = self.flying.pop(0)
        self.on_broker.add(position)
        self.lanes.confirm({"kz": position})

    @precondition(lambda self: self.flying)
    @rule()
    def the_broker_goes_away(self):
        for position in self.flying:
            self.lanes.give_back({"kz": position})
        self.flying = []

    @precondition(lambda self: self.on_broker - self.receipted)
    @rule(data=st.data())
    def a_receipt_comes(self, data):
        position = data.draw(st.sampled_from(sorted(self.on_broker - self.receipted)))
        self.receipted.add(position)
        self.lanes.settle({"kz": 1})

    @rule()
    def the_cursor_is_saved(self):
        self.saved = self.lanes.cursors()["kz"]

    @rule()
    def the_hub_crashes(self):
        self.flying = []
        self.begin()

    @invariant()
    def what_counts_as_published_is_on_its_way_or_there(self):
        published = self.lanes["kz"].published
        assert set(range(1, published + 1)) <= self.on_broker | set(self.flying)

    @invariant()
    def what_is_saved_is_on_the_broker(self):
        assert set(range(1, self.saved + 1)) <= self.on_broker

    @invariant()
    def the_queue_is_bounded(self):
        # Fed up to a half, then one more at a time; live up to the bound.
        assert len(self.on_broker - self.receipted) <= self.limit + 1

    def teardown(self):
        """Whatever happened: with a broker that takes all, and receipts, everything arrives."""
        for position in list(self.flying):
            self.the_broker_confirms()
            assert position in self.on_broker
        while self.lanes["kz"].behind:
            if not self.lanes.to_feed():
                assert self.lanes.without_room() == ["kz"]
                self.lanes["kz"].outstanding = 0
            self.it_is_fed()
            self.the_broker_confirms()
        assert self.on_broker == set(range(1, self.last + 1))


TestOneRecipient = OneRecipient.TestCase
