"""Routing: who receives a message by the rules of its marking, who does not, and why."""

import pytest

from schemas import routing
from schemas.refusal import Refused
from schemas.vocabulary import MARKINGS
from tests import builders
from tests.builders import directory_log, fold, group, held, invited, suspended

EVERYBODY = builders.directory()
OPEN = ["TLP:CLEAR", "TLP:GREEN"]
MAY = {"kz": set(MARKINGS), "undp": {"TLP:CLEAR", "TLP:GREEN"}, "guest": set()}
NET = [*directory_log(), group("net", "kz", "kg", "undp", "guest")]
"""The thematic network net has two members, a partner and an observer."""


def routed(audience, marking="TLP:GREEN", sender="kz", directory=EVERYBODY):
    return routing.route(audience, marking, sender, directory)


def refused(audience, marking="TLP:GREEN", sender="kz", directory=EVERYBODY):
    with pytest.raises(Refused) as caught:
        routed(audience, marking, sender, directory)
    assert caught.value.path == "$.audience"
    return caught.value.code


class TestWhoIsNamed:
    @pytest.mark.parametrize("marking", OPEN)
    @pytest.mark.parametrize("code", ["kg", "undp", "guest"])
    def test_receives_clear_and_green_whatever_the_role(self, marking, code):
        assert routed([code], marking).recipients == {code: "named"}

    @pytest.mark.parametrize("marking", ["TLP:AMBER", "TLP:AMBER+STRICT", "TLP:RED"])
    def test_receives_the_others_as_a_member(self, marking):
        assert routed(["kg"], marking).recipients == {"kg": "named"}

    @pytest.mark.parametrize("marking", ["TLP:AMBER", "TLP:AMBER+STRICT", "TLP:RED"])
    @pytest.mark.parametrize("code", ["undp", "guest"])
    def test_although_the_marking_forbids_it_spoils_the_whole_message(self, marking, code):
        assert refused(["kg", code], marking) == "marking-conflict"

    @pytest.mark.parametrize("code", ["osce", "nobody", "hub"])
    def test_must_be_a_participant(self, code):
        assert refused(["kg", code]) == "unknown-recipient"

    def test_must_have_joined(self):
        log = [*directory_log(), invited("late")]
        assert refused(["kg", "late"], directory=fold(log)) == "unknown-recipient"

    def test_is_left_out_while_suspended(self):
        found = routed(["kg", "tj"], directory=fold([*directory_log(), suspended("tj")]))
        assert (found.recipients, found.left_out) == ({"kg": "named"}, {"tj": "suspended"})

    def test_goes_on_receiving_while_its_own_keys_are_held(self):
        found = routed(["kg"], directory=fold([*directory_log(), held("kg", "again")]))
        assert found.recipients == {"kg": "named"}


class TestAGroup:
    def test_region_is_every_member_but_the_sender(self):
        found = routed(["region"])
        assert found.recipients == dict.fromkeys(
            ["kg", "tj", "tm", "uz", "uz-nhrc"], "group:region"
        )
        assert found.left_out == {"kz": "sender"}

    def test_stands_for_its_members_of_every_role(self):
        found = routed(["net"], directory=fold(NET))
        assert found.recipients == dict.fromkeys(["kg", "undp", "guest"], "group:net")

    def test_leaves_out_whom_amber_forbids(self):
        found = routed(["net"], "TLP:AMBER", directory=fold(NET))
        assert found.recipients == {"kg": "group:net"}
        assert found.left_out == {"guest": "marking", "kz": "sender", "undp": "marking"}

    @pytest.mark.parametrize("marking", ["TLP:AMBER+STRICT", "TLP:RED"])
    def test_cannot_stand_for_people_named_one_by_one(self, marking):
        assert refused(["region"], marking) == "marking-conflict"
        assert refused(["kg", "net"], marking, directory=fold(NET)) == "marking-conflict"

    def test_leaves_out_who_is_suspended(self):
        found = routed(["region"], directory=fold([*directory_log(), suspended("tj")]))
        assert found.left_out == {"kz": "sender", "tj": "suspended"}

    def test_does_not_hold_who_has_not_joined(self):
        log = [*directory_log(), invited("late"), group("net", "kg", "late")]
        found = routed(["net"], directory=fold(log))
        assert (found.recipients, found.left_out) == ({"kg": "group:net"}, {})

    def test_gives_its_name_as_reason_only_to_those_not_named(self):
        for audience in (["region", "kg"], ["kg", "region"]):
            found = routed(audience)
            assert found.recipients["kg"] == "named"
            assert found.recipients["tj"] == "group:region"

    def test_gives_its_name_once_where_two_overlap(self):
        found = routed(["region", "net"], directory=fold(NET))
        assert found.recipients["kg"] == "group:region"
        assert found.recipients["undp"] == "group:net"
        assert found.left_out == {"kz": "sender"}


class TestNobodyLeft:
    def test_is_no_message(self):
        lonely = fold(directory_log(kz="member", undp="partner"))
        assert refused(["region"], directory=lonely) == "no-recipient"

    def test_because_everybody_is_suspended(self):
        log = [*directory_log(), suspended("kg")]
        assert refused(["kg"], directory=fold(log)) == "no-recipient"

    def test_because_the_marking_forbids_all(self):
        assert refused(["partners"], "TLP:AMBER") == "no-recipient"

    def test_because_the_group_is_empty(self):
        log = [*directory_log(), group("net")]
        assert refused(["net"], directory=fold(log)) == "no-recipient"


class TestWhoMaySend:
    @pytest.mark.parametrize("marking", MARKINGS)
    @pytest.mark.parametrize("sender", MAY)
    def test_follows_from_the_role(self, sender, marking):
        if marking in MAY[sender]:
            routing.check_may_send(sender, marking, EVERYBODY)
        else:
            with pytest.raises(Refused, match=r"role-may-not-send.*\$\.marking"):
                routing.check_may_send(sender, marking, EVERYBODY)

    def test_is_nobody_suspended(self):
        found = fold([*directory_log(), suspended("kz")])
        with pytest.raises(Refused, match="suspended"):
            routing.check_may_send("kz", "TLP:GREEN", found)

    def test_is_nobody_whose_keys_await_confirmation_but_later(self):
        found = fold([*directory_log(), held("kz", "again")])
        with pytest.raises(Refused, match="held") as caught:
            routing.check_may_send("kz", "TLP:GREEN", found)
        assert caught.value.row.retryable
