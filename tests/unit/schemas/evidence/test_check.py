"""Checking evidence: what convinces somebody who trusts nobody, and what does not."""

from schemas import entry as entries
from schemas import policy as policies
from schemas.encoding import b64url
from schemas.evidence import archive
from schemas.evidence.bundle import Row
from schemas.evidence.check import Result, check
from schemas.note import ed25519_vkey
from schemas.publication import examples
from tests import builders
from tests import evidence as samples

TRUSTED = policies.parse(samples.policy())
STUB = "{{evidence}}"


def checked(made, policy=TRUSTED):
    return check(archive.write(made, STUB), STUB, policy)


def failures(made, policy=TRUSTED):
    """What fails, by name."""
    return {f.check for f in checked(made, policy).findings if f.result is Result.FAILS}


def sentence(report, name, about=None):
    return next(f.sentence for f in report.findings if f.check == name and about in (None, f.about))


# --- What holds ---


def test_good_evidence_under_a_trusted_key_holds_and_every_check_is_told():
    report = checked(samples.evidence())
    assert report.holds
    assert {f.check for f in report.findings} == {
        *("archive", "checkpoint", "cosignature", "log-key", "quorum", "included", "private"),
        *("directory", "message", "envelope", "signature", "described", "receipt"),
    }
    assert sentence(report, "message").startswith("The hub accepted the message of kz at 2026-07")
    assert "kg signed at" in sentence(report, "receipt")


def test_without_a_policy_nothing_is_wrong_and_still_it_does_not_hold():
    report = checked(samples.evidence(), None)
    assert not report.holds
    opened = [f for f in report.findings if f.result is not Result.HOLDS]
    assert [(f.check, f.result) for f in opened] == [("log-key", Result.OPEN)]
    assert str(builders.LOG) in opened[0].sentence


def test_a_log_that_the_policy_does_not_name_is_not_believed():
    other = ed25519_vkey(builders.ORIGIN, builders.public(builders.key("thief")))
    assert failures(samples.evidence(), policies.parse(samples.policy(log=other))) == {"log-key"}


def test_the_policy_says_how_many_witnesses_are_enough():
    enough = policies.parse(samples.quorum("kz", "kg", "tj", of=2))
    assert checked(samples.evidence(), enough).holds
    more = policies.parse(samples.quorum("kz", "kg", "tj", of=3))
    assert failures(samples.evidence(), more) == {"quorum"}


def test_without_the_message_its_hash_is_still_proven():
    report = checked(samples.evidence(shown=False))
    assert report.holds
    assert report.limits[0].startswith("What the message says")


def test_of_an_erased_message_it_is_said_that_its_hash_is_gone_too():
    report = checked(samples.erased())
    assert report.holds
    assert report.limits[0] == (
        "What the message says: it was erased at the hub, and its hash with it, at "
        f"{builders.time(3)} (entry {samples.index_of(samples.erased(), 'message.erased')}); "
        "whoever received it may have a copy, with evidence of its own."
    )


def test_without_the_private_part_there_is_no_hash_to_compare_with():
    made = samples.evidence(shown=False)
    at = samples.index_of(made, entries.MESSAGE_ACCEPTED)
    report = checked(samples.with_entry(made, at, private=None, salt=None))
    assert "What the message says: neither it nor its hash is in this evidence." in report.limits


def test_what_cannot_be_known_is_said():
    limits = checked(samples.evidence()).limits
    assert "Whether undp received it: there is no receipt here." in limits
    assert any("revocation" in limit for limit in limits)


def test_a_refusal_by_the_hub_can_be_proven_too():
    log = samples.Log(*builders.directory_log(kz="member"))
    raw = builders.signed(builders.message())
    refused = {"detail": "No.", "path": None, "envelope": entries.digest(raw)}
    private = builders.payload(refused)
    line = builders.entry(
        entries.MESSAGE_REFUSED, samples.ID, {"code": "quota"}, actor="kz", private=private
    )
    report = checked(samples.of_rows(log, [log.append(line, private)], raw))
    assert report.holds
    assert sentence(report, "message").startswith("The hub refused the message of kz")


def test_the_published_example_holds():
    report = checked(examples.evidence(), policies.parse(samples.policy(log=examples.LOG)))
    assert report.holds, report.findings
    assert "receipt" in {finding.check for finding in report.findings}


# --- What does not ---


def test_another_message_under_the_same_acceptance_is_noticed():
    other = builders.signed(builders.message(marking="TLP:CLEAR"), builders.key("kz second"))
    assert failures(samples.changed(samples.evidence(), envelope=b64url(other))) == {"envelope"}


def test_a_message_without_a_record_of_it_shows_nothing():
    made = samples.evidence()
    index = samples.index_of(made, entries.MESSAGE_ACCEPTED)
    stripped = samples.with_entry(made, index, private=None, salt=None)
    assert failures(stripped) == {"envelope"}


def test_a_signature_by_a_key_that_was_not_the_senders_at_that_time_does_not_count():
    revoked_later = samples.evidence()
    assert failures(revoked_later) == set()
    rotated_before = builders.signed(builders.message(), builders.key("kz"))
    assert failures(samples.evidence(envelope=rotated_before)) == {"signature", "described"}


def test_a_stranger_cannot_have_signed_for_the_sender():
    forged = builders.signed(builders.message(), builders.key("thief"))
    assert failures(samples.evidence(envelope=forged)) == {"signature", "described"}


def test_a_member_cannot_sign_for_another():
    forged = builders.signed(builders.message(), builders.key("kg"))
    assert failures(samples.evidence(envelope=forged)) == {"described"}


def test_keys_whose_history_is_left_out_are_unknown():
    made = samples.evidence(cosigned_by=())
    kept = tuple(e for e in made.entries if samples.opened(e.entry).subject != "kz")
    assert failures(samples.changed(made, entries=kept)) == {"signature", "described"}


def test_an_entry_that_is_not_in_the_log_takes_all_that_rests_on_it_along():
    made = samples.evidence()
    index = samples.index_of(made, entries.KEY_ROTATED)
    forged = entries.encode(builders.rotated("kz", "thief"))
    failed = failures(samples.with_entry(made, index, entry=b64url(forged)))
    assert {"included", "signature", "described"} <= failed


def test_another_private_part_is_noticed():
    made = samples.evidence()
    index = samples.index_of(made, entries.MESSAGE_ACCEPTED)
    assert "private" in failures(samples.with_entry(made, index, private=b64url(b"{}")))


def test_a_receipt_by_somebody_else_is_none():
    log = samples.Log(*builders.directory_log(kz="member", kg="member", tj="member"))
    raw = builders.signed(builders.message())
    accepted = log.accept(raw, ["kg"])
    forged = log.receive(accepted, "kg", 1, seed="tj")
    assert failures(samples.of_rows(log, [accepted, forged], raw)) == {"receipt"}


def test_a_receipt_for_another_position_or_acceptance_is_noticed():
    log = samples.Log(*builders.directory_log(kz="member", kg="member"))
    raw = builders.signed(builders.message())
    accepted = log.accept(raw, ["kg"])
    elsewhere = log.receive(accepted, "kg", 7)
    assert failures(samples.of_rows(log, [accepted, elsewhere], raw)) == {"receipt"}
    other = Row(0, b"another acceptance")
    of_another = log.receive(other, "kg", 1)
    assert failures(samples.of_rows(log, [accepted, of_another], raw)) == {"receipt"}


def test_entries_about_something_else_do_not_belong_here():
    log = samples.Log(*builders.directory_log(kz="member"))
    raw = builders.signed(builders.message())
    kept = [log.accept(raw, ["kg"]), log.append(builders.entry(entries.HUB_STARTED))]
    assert failures(samples.of_rows(log, kept, raw)) == {"included"}


def test_a_witness_that_did_not_cosign_is_not_one():
    made = samples.evidence(cosigned_by=["kg"])
    named = (*made.witnesses, str(samples.witness("tj")))
    assert failures(samples.changed(made, witnesses=named)) == {"cosignature"}


def test_a_line_that_nobody_can_verify_is_not_passed_over():
    made = samples.evidence(cosigned_by=["kg"])
    assert failures(samples.changed(made, witnesses=())) == {"cosignature"}


def test_entries_out_of_order_or_twice_are_not_as_this_program_writes_them():
    made = samples.evidence()
    assert failures(samples.changed(made, entries=made.entries[::-1])) >= {"archive"}
    twice = (*made.entries, made.entries[-1])
    assert failures(samples.changed(made, entries=twice)) >= {"archive"}
