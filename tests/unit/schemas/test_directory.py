"""The directory: who is who, folded from the log alone; and what no hub can slip into it."""

import pytest

from schemas import entry as entries
from schemas import jsontext, signature, statement
from schemas.directory import Directory, DirectoryError, State
from schemas.encoding import b64url
from schemas.refusal import Refused
from schemas.statement import Join, Revoke, Rotate
from tests import builders
from tests.builders import (
    directory_log,
    entry,
    fold,
    group,
    held,
    invitation,
    invited,
    joined,
    key,
    keys,
    kid,
    public,
    replaced,
    resumed,
    revoked,
    rotated,
    stated,
    suspended,
    time,
)

HERE = [invited("kz"), joined("kz")]
"""kz is active under ``key("kz")``, which holds from index 1."""

LOG_OF = {
    None: [],
    State.INVITED: [invited("kz")],
    State.ACTIVE: HERE,
    State.HELD: [*HERE, held("kz", "again")],
    State.SUSPENDED: [*HERE, suspended("kz")],
}
"""How kz comes into each state."""

ENTRY = {
    "invited": invited("kz", name="again"),
    "joined": joined("kz"),
    "held": held("kz", "again"),
    "replaced": replaced("kz", "kz second", "again"),
    "rotated": rotated("kz", "kz second"),
    "suspended": suspended("kz"),
    "resumed": resumed("kz"),
}

MOVES = {
    (None, "invited"): State.INVITED,
    (State.INVITED, "invited"): State.INVITED,
    (State.INVITED, "joined"): State.ACTIVE,
    (State.ACTIVE, "held"): State.HELD,
    (State.ACTIVE, "rotated"): State.ACTIVE,
    (State.ACTIVE, "suspended"): State.SUSPENDED,
    (State.HELD, "held"): State.HELD,
    (State.HELD, "replaced"): State.ACTIVE,
    (State.HELD, "suspended"): State.SUSPENDED,
    (State.SUSPENDED, "resumed"): State.ACTIVE,
}
"""What may happen to kz in each state, and the state after it. Nothing else may."""


def impossible(log, last):
    """Why the last entry cannot come after a log, which it leaves as it was."""
    before = fold(log)
    with pytest.raises(DirectoryError) as caught:
        before.apply(len(log), last)
    assert f"{last.type} at {len(log)}: " in str(caught.value)
    return str(caught.value)


def signed_over_something_else(made):
    """A statement with a signature of kz that was made over other bytes."""
    wire = signature.sign_payload(b"{}", signature.KEY_TYPE, key("kz"))
    return signature.envelope(jsontext.encode(made), [wire])


class TestTheMoves:
    @pytest.mark.parametrize(("before", "what"), MOVES)
    def test_that_are_allowed(self, before, what):
        after = fold([*LOG_OF[before], ENTRY[what]])
        assert after.participants["kz"].state is MOVES[before, what]

    @pytest.mark.parametrize(
        ("before", "what"),
        [(s, what) for s in LOG_OF for what in ENTRY if (s, what) not in MOVES],
    )
    def test_that_are_not(self, before, what):
        reason = impossible(LOG_OF[before], ENTRY[what])
        assert f"may not come while kz is {before or 'unknown'}" in reason

    def test_whoever_is_suspended_while_held_is_held_again_after_it(self):
        log = [*HERE, held("kz", "again"), suspended("kz"), resumed("kz")]
        assert fold(log).participants["kz"].state is State.HELD
        assert fold([*log, replaced("kz", "b", "again")]).participants["kz"].state is State.ACTIVE

    def test_whose_key_was_revoked_while_suspended_is_held_after_it(self):
        log = [*HERE, suspended("kz"), revoked("kz"), resumed("kz")]
        assert fold(log).participants["kz"].state is State.HELD

    def test_other_entries_change_nothing(self):
        before = fold(HERE)
        assert before.apply(2, entry("message.accepted", builders.message_id())) is before
        assert before.apply(2, entry("hub.started", "kz")) is before

    def test_one_is_no_move_of_another(self):
        with_kg = [*directory_log(kg="member"), *HERE]
        after = fold([*with_kg, held("kz", "again"), suspended("kz")])
        assert after.participants["kg"] == fold(with_kg).participants["kg"]

    def test_the_directory_before_stays_as_it_was(self):
        before = fold(HERE)
        before.apply(2, suspended("kz"))
        assert before == fold(HERE)


class TestAnInvitation:
    def test_tells_role_and_names_before_there_is_a_key(self):
        found = fold([invited("undp", "partner")]).participants["undp"]
        assert (found.role, found.names, found.keys, found.kid) == (
            "partner",
            {"en": "UNDP"},
            None,
            None,
        )

    @pytest.mark.parametrize("code", ["region", "partners", "hub"])
    def test_is_not_for_a_reserved_code(self, code):
        assert "reserved" in impossible([], invited(code))

    def test_is_not_for_the_code_of_a_group(self):
        assert "reserved" in impossible([*HERE, group("net", "kz")], invited("net"))

    @pytest.mark.parametrize("code", ["", "K", "KZ", "kz\n", "kz kg", "қз", "a" * 17, None])
    def test_is_for_something_that_is_a_code(self, code):
        made = entry(entries.MEMBER_INVITED, code, invited("kz").public)
        assert "not a code" in impossible([], made)

    @pytest.mark.parametrize("role", ["operator", "", None])
    def test_is_for_one_of_the_three_roles(self, role):
        made = entry(entries.MEMBER_INVITED, "kz", {**invited("kz").public, "role": role})
        assert "role" in impossible([], made)

    def test_has_names_that_read_the_same_for_everyone(self):
        names = {"en": "Ombuds\u202eman"}
        made = entry(entries.MEMBER_INVITED, "kz", {**invited("kz").public, "names": names})
        assert "U+202E" in impossible([], made)

    def test_that_is_renewed_ends_the_one_before(self):
        log = [invited("kz", name="first"), invited("kz", name="second")]
        assert "another invitation" in impossible(log, joined("kz", name="first"))
        assert fold([*log, joined("kz", name="second")]).participants["kz"].state is State.ACTIVE

    def test_is_used_once(self):
        assert fold(HERE).invitations == {}
        log = [*HERE, held("kz", "again")]
        assert "another invitation" in impossible(log, replaced("kz", "kz second", "kz"))


class TestJoining:
    def test_registers_the_keys_of_the_statement(self):
        found = fold(HERE)
        assert found.participants["kz"].keys == keys("kz")
        assert found.participants["kz"].kid == kid(key("kz"))
        assert found.key(kid(key("kz"))).public == public(key("kz"))

    def test_needs_the_invitation_of_that_code(self):
        log = [invited("kz"), invited("kg")]
        assert "another invitation" in impossible(log, joined("kz", name="kg"))

    def test_needs_a_statement_about_that_code(self):
        log = [invited("kz"), invited("kg")]
        forged = stated(entries.MEMBER_JOINED, "kz", builders.join("kg"))
        assert "not this participant's join" in impossible(log, forged)

    def test_needs_a_join_statement(self):
        forged = stated(entries.MEMBER_JOINED, "kz", builders.rotate("kz", "kz second"))
        assert "not this participant's join" in impossible([invited("kz")], forged)

    @pytest.mark.parametrize("signers", [["thief"], ["kz", "thief"]], ids="+".join)
    def test_needs_the_signature_of_the_new_key_and_of_no_other(self, signers):
        made = Join("kz", invitation("kz"), keys("kz"), time())
        raw = statement.sign(made, *map(key, signers))
        forged = stated(entries.MEMBER_JOINED, "kz", raw)
        assert "bad-statement" in impossible([invited("kz")], forged)

    def test_needs_a_signature_that_holds(self):
        made = Join("kz", invitation("kz"), keys("kz"), time())
        forged = stated(entries.MEMBER_JOINED, "kz", signed_over_something_else(made))
        assert "bad-signature" in impossible([invited("kz")], forged)

    def test_takes_no_key_that_somebody_has_or_had(self):
        log = [*HERE, invited("kg")]
        assert "only once" in impossible(log, joined("kg", seed="kz"))
        revoked_since = [*log, revoked("kz")]
        assert "only once" in impossible(revoked_since, joined("kg", seed="kz"))

    def test_takes_no_low_order_key(self):
        worthless = signature.jwk(bytes([1] + [0] * 31))
        made = Join("kz", invitation("kz"), keys("kz", sign=worthless), time())
        forged = stated(entries.MEMBER_JOINED, "kz", statement.sign(made, key("kz")))
        assert "low-order-key" in impossible([invited("kz")], forged)

    @pytest.mark.parametrize(
        "public",
        [
            {},
            {"statement": None},
            {"statement": ""},
            {"statement": "===="},
            {"statement": "e30"},
            {"statement": b64url(b"\xff" * 40)},
            {"statement": b64url(b"[" * 10_000)},
            {"statement": b64url(builders.join("kz")), "note": "x"},
        ],
        ids=lambda public: str(public)[:40],
    )
    def test_needs_a_statement_that_can_be_read(self, public):
        forged = entry(entries.MEMBER_JOINED, "kz", public)
        assert impossible([invited("kz")], forged)


class TestRotation:
    def test_ends_the_old_key_where_the_new_one_begins(self):
        found = fold([*HERE, rotated("kz", "kz second")])
        old, new = found.key(kid(key("kz"))), found.key(kid(key("kz second")))
        assert (old.since, old.until) == (1, 2)
        assert (new.since, new.until) == (2, None)
        assert found.participants["kz"].kid == new.kid

    def test_goes_on_from_the_newest_key(self):
        log = [*HERE, rotated("kz", "b"), rotated("kz", "c", previous="b")]
        assert fold(log).participants["kz"].kid == kid(key("c"))
        assert impossible(log, rotated("kz", "d", previous="b"))

    @pytest.mark.parametrize(
        "signers",
        [["kz"], ["kz second"], ["thief", "kz second"], ["kz", "kz second", "thief"]],
        ids="+".join,
    )
    def test_needs_the_old_and_the_new_key_and_no_other(self, signers):
        raw = statement.sign(Rotate("kz", keys("kz second"), time()), *map(key, signers))
        assert "bad-statement" in impossible(HERE, stated(entries.KEY_ROTATED, "kz", raw))

    def test_needs_a_rotation_of_that_code(self):
        log = [*HERE, *directory_log(kg="member")]
        forged = stated(entries.KEY_ROTATED, "kg", builders.rotate("kz", "kz second"))
        assert "not this participant's rotation" in impossible(log, forged)
        join = stated(entries.KEY_ROTATED, "kz", builders.join("kz", "kz second"))
        assert "not this participant's rotation" in impossible(log, join)

    def test_cannot_be_repeated(self):
        rotation = rotated("kz", "kz second")
        assert impossible([*HERE, rotation], rotation)

    def test_does_not_go_back_to_an_old_key(self):
        log = [*HERE, rotated("kz", "kz second")]
        assert "only once" in impossible(log, rotated("kz", "kz", previous="kz second"))

    def test_does_not_start_from_a_revoked_key(self):
        log = [*HERE, revoked("kz")]
        assert "no key to rotate from" in impossible(log, rotated("kz", "kz second"))

    def test_does_not_start_from_an_expired_key(self):
        log = [*HERE, rotated("kz", "b", expires=time(60))]
        late = builders.entry(
            entries.KEY_ROTATED, "kz", rotated("kz", "c", previous="b").public, at=time(60)
        )
        assert "expired-key" in impossible(log, late)

    def test_takes_no_key_of_somebody_else(self):
        log = [*HERE, *directory_log(kg="member")]
        assert "only once" in impossible(log, rotated("kz", "kg"))


class TestRevocation:
    def test_ends_the_key_and_leaves_no_current_one(self):
        found = fold([*HERE, revoked("kz", by="kz")])
        assert found.key(kid(key("kz"))).until == 2
        assert found.participants["kz"].kid is None

    def test_by_an_operator_has_no_statement(self):
        assert fold([*HERE, revoked("kz")]).key(kid(key("kz"))).until == 2

    def test_of_an_old_key_leaves_the_current_one_alone(self):
        log = [*HERE, rotated("kz", "kz second")]
        assert "has ended already" in impossible(log, revoked("kz"))

    def test_of_an_unknown_key_is_impossible(self):
        assert "unknown-key" in impossible(HERE, revoked("kz", "never registered"))

    def test_of_another_participants_key_is_impossible(self):
        log = [*HERE, *directory_log(kg="member")]
        assert "another's" in impossible(log, revoked("kz", "kg"))

    @pytest.mark.parametrize("by", ["thief", "kg", "kz witness"])
    def test_is_stated_by_the_institution_itself(self, by):
        log = [*HERE, *directory_log(kg="member")]
        assert impossible(log, revoked("kz", by=by))

    def test_is_not_stated_with_a_key_that_ended(self):
        log = [*HERE, rotated("kz", "kz second")]
        assert "revoked-key" in impossible(log, revoked("kz", "kz second", by="kz"))

    @pytest.mark.parametrize(
        "made",
        [
            Revoke("kz", kid(key("other")), "compromised", time()),
            Revoke("kg", kid(key("kz")), "compromised", time()),
            Revoke("kz", kid(key("kz")), "superseded", time()),
            Join("kz", invitation("kz"), keys("kz"), time()),
        ],
        ids=["another key", "another code", "another reason", "no revocation"],
    )
    def test_is_the_one_that_was_stated(self, made):
        raw = statement.sign(made, key("kz"))
        forged = entry(
            entries.KEY_REVOKED, "kz", {**revoked("kz").public, "statement": b64url(raw)}
        )
        assert "not this revocation" in impossible(HERE, forged)

    def test_needs_signatures_that_hold(self):
        made = Revoke("kz", kid(key("kz")), "compromised", time())
        raw = signed_over_something_else(made)
        forged = entry(
            entries.KEY_REVOKED, "kz", {**revoked("kz").public, "statement": b64url(raw)}
        )
        assert "bad-signature" in impossible(HERE, forged)

    def test_of_the_last_key_leads_over_hold_and_replacement(self):
        log = [*HERE, revoked("kz"), held("kz", "again"), replaced("kz", "b", "again")]
        assert fold(log).participants["kz"].kid == kid(key("b"))


class TestReplacement:
    HELD = (*HERE, held("kz", "again"))

    def test_ends_the_keys_at_the_hold_and_begins_new_ones_later(self):
        found = fold([*self.HELD, replaced("kz", "b", "again")])
        assert found.key(kid(key("kz"))).until == 2
        assert found.key(kid(key("b"))).since == 3

    def test_needs_the_invitation_of_the_hold(self):
        log = [*self.HELD, held("kz", "once more")]
        assert "another invitation" in impossible(log, replaced("kz", "b", "again"))
        found = fold([*log, replaced("kz", "b", "once more")])
        assert found.participants["kz"].state is State.ACTIVE

    def test_does_not_bring_back_the_lost_key(self):
        assert "only once" in impossible(list(self.HELD), replaced("kz", "kz", "again"))

    def test_leaves_nobody_a_current_key_in_between(self):
        assert fold(self.HELD).participants["kz"].kid is None


class TestWhenAKeyHolds:
    LOG = (
        *HERE,
        entry("hub.started"),
        entry("hub.started"),
        rotated("kz", "b"),
        revoked("kz", "b"),
    )
    """The first key from 1 to 3, the second at 4 alone."""

    @pytest.mark.parametrize(
        ("seed", "holds"),
        [("kz", [False, True, True, True, False, False]), ("b", [False] * 4 + [True, False])],
    )
    def test_is_judged_by_the_index_of_its_use(self, seed, holds):
        found = fold(self.LOG).key(kid(key(seed)))
        assert [found.valid_at(index, time()) for index in range(6)] == holds

    def test_is_judged_by_the_time_of_its_use_where_it_expires(self):
        found = fold([*HERE, rotated("kz", "b", expires=time(60))])
        last = found.valid_key(kid(key("b")), 2, "2026-07-01T09:59:59.999Z")
        assert last.expires == time(60)
        assert not last.valid_at(2, time(60))
        with pytest.raises(Refused, match="expired-key"):
            found.valid_key(kid(key("b")), 2, time(60))

    @pytest.mark.parametrize(
        ("seed", "index", "code"),
        [("thief", 3, "unknown-key"), ("kz", 4, "revoked-key"), ("b", 5, "revoked-key")],
    )
    def test_is_said_with_a_reason(self, seed, index, code):
        with pytest.raises(Refused) as caught:
            fold(self.LOG).valid_key(kid(key(seed)), index, time())
        assert caught.value.code == code

    def test_stays_known_after_it_ended(self):
        assert fold(self.LOG).key(kid(key("kz"))).member == "kz"


class TestGroups:
    def test_region_is_all_members_and_partners_are_all_partners(self):
        found = builders.directory()
        assert found.members_of("region") == ("kg", "kz", "tj", "tm", "uz", "uz-nhrc")
        assert found.members_of("partners") == ("ohchr", "undp")

    def test_suspended_and_held_participants_stay_in_their_groups(self):
        log = [*directory_log(kz="member", kg="member"), suspended("kz"), held("kg", "again")]
        assert fold(log).members_of("region") == ("kg", "kz")

    def test_who_has_not_joined_is_in_no_group(self):
        log = [*HERE, invited("kg"), group("net", "kz", "kg")]
        assert fold(log).members_of("region") == ("kz",)
        assert fold(log).members_of("net") == ("kz",)
        assert fold([*log, joined("kg")]).members_of("net") == ("kg", "kz")

    def test_a_network_has_its_members_in_order_and_once(self):
        log = [*directory_log(), group("net", "undp", "kz", "undp", "kg")]
        assert fold(log).members_of("net") == ("kg", "kz", "undp")

    def test_a_network_is_changed_as_a_whole(self):
        log = [*directory_log(), group("net", "kz", "kg"), group("net", "tj")]
        assert fold(log).members_of("net") == ("tj",)

    def test_a_network_may_be_emptied(self):
        assert fold([*HERE, group("net", "kz"), group("net")]).members_of("net") == ()

    @pytest.mark.parametrize("code", ["kz", "unheard", "Region"])
    def test_nothing_else_is_a_group(self, code):
        assert builders.directory().members_of(code) is None

    @pytest.mark.parametrize("code", ["region", "partners", "hub", "kz"])
    def test_a_network_has_no_code_that_is_reserved_or_taken(self, code):
        assert "reserved" in impossible(HERE, group(code, "kz"))

    @pytest.mark.parametrize("code", ["", "N", "net\n", "x y"])
    def test_a_network_has_a_code(self, code):
        assert "not a code" in impossible(HERE, group(code, "kz"))

    @pytest.mark.parametrize("member", ["kg", "region", "net"])
    def test_a_network_consists_of_participants(self, member):
        assert f"{member}: not a participant" in impossible(HERE, group("net", "kz", member))

    @pytest.mark.parametrize("public", [{}, {"members": "kz"}, {"members": ["KZ"]}, {"x": []}])
    def test_a_network_is_a_list_of_codes(self, public):
        assert impossible(HERE, entry(entries.GROUP_CHANGED, "net", public))


def test_everybody_who_reads_the_same_log_has_the_same_directory():
    log = [*directory_log(), rotated("kz", "b"), group("net", "kz", "undp"), suspended("tm")]
    one = fold(log)
    other = Directory()
    for index, made in enumerate(log):
        other = other.apply(index, entries.decode(entries.encode(made)))
    assert one == other
