"""Policies: how they are read, what they refuse, and which witnesses are a quorum."""

import pytest
from cryptography.hazmat.primitives.asymmetric.mldsa import MLDSA44PrivateKey

from schemas import checkpoint, cosignature, merkle, note, policy
from schemas.checkpoint import Checkpoint
from schemas.note import Note, NoteError
from schemas.policy import Group, PolicyError
from tests import builders

CODES = ("kz", "kg", "tj", "tm", "uz", "uz-nhrc")
ORIGIN = builders.LOG.name
WITNESSES = {
    code: cosignature.vkey_of(
        cosignature.witness_name(ORIGIN, code), builders.key(f"{code} witness")
    )
    for code in CODES
}
KZ, KG, TJ, TM, UZ, UZ_NHRC = WITNESSES.values()
ML_DSA = cosignature.vkey_of("elsewhere.example/w", MLDSA44PrivateKey.from_seed_bytes(b"\x05" * 32))


def read(*lines):
    return policy.parse("".join(f"{line}\n" for line in lines).encode())


class TestReading:
    def test_gives_logs_witnesses_groups_and_the_quorum(self):
        found = read(
            "# who is believed",
            f"log {builders.LOG} https://hub.example/log",
            f"\twitness\tkazakhstan  {KZ} https://w.example/ ",
            "",
            f"witness other {ML_DSA}",
            "group both all kazakhstan other",
            "  # the end",
            "quorum both",
        )
        assert found.logs == (builders.LOG,)
        assert found.witnesses == {"kazakhstan": KZ, "other": ML_DSA}
        assert found.groups == {"both": Group(2, ("kazakhstan", "other"))}
        assert found.quorum == "both"

    @pytest.mark.parametrize(("word", "threshold"), [("any", 1), ("all", 3), ("2", 2), ("3", 3)])
    def test_takes_how_many_of_a_group_are_needed(self, word, threshold):
        witnesses = [f"witness w{n} {w}" for n, w in enumerate((KZ, KG, TJ))]
        found = read(*witnesses, f"group g {word} w0 w1 w2", "quorum g")
        assert found.groups["g"].threshold == threshold

    def test_keeps_names_that_are_no_utf_8_apart(self):
        raw = f"witness \xff {KZ}\nwitness \xfe {KG}\nquorum \xff\n".encode("latin-1")
        found = policy.parse(raw)
        assert found.holds([KZ])
        assert not found.holds([KG])

    @pytest.mark.parametrize(
        ("lines", "why"),
        [
            pytest.param([], "one line quorum", id="nothing"),
            pytest.param(["quorum none", "quorum none"], "Line 2: .*one line quorum", id="two"),
            pytest.param(["quorum kz", f"witness kz {KZ}"], "line before", id="quorum too early"),
            pytest.param(["group g any kz", f"witness kz {KZ}"], "line before", id="too early"),
            pytest.param(["group g any g"], "line before", id="a group of itself"),
            pytest.param(["witness kz"], "number of words", id="no key"),
            pytest.param([f"witness kz {KZ} https://x y"], "number of words", id="too much"),
            pytest.param([f"witness kz {builders.LOG}"], "not for this", id="a log's key"),
            pytest.param([f"log {KZ}"], "not for this", id="a witness's key"),
            pytest.param([f"witness kz {str(KZ)[:-1]}"], "base64", id="half a key"),
            pytest.param(["quorum none none"], "number of words", id="two quorums"),
            pytest.param([f"witness none {KZ}"], "is taken", id="the reserved name"),
            pytest.param(["witnesses 3"], "begins with", id="an unknown line"),
            pytest.param([f"log {builders.LOG}"] * 2, "on a line before", id="a log twice"),
            pytest.param(["quorum \x00"], "control characters", id="a control character"),
            pytest.param(["quorum none\r"], "control characters", id="carriage returns"),
        ],
    )
    def test_refuses(self, lines, why):
        with pytest.raises(PolicyError, match=why):
            read(*lines)

    @pytest.mark.parametrize(
        ("line", "why"),
        [
            ("group g 0 a b", "how many"),
            ("group g 01 a b", "how many"),
            ("group g 3 a b", "cannot need 3"),
            ("group g most a b", "how many"),
            ("group g any", "number of words"),
            ("group g any none", "line before"),
            ("group a any b", "is taken"),
            ("group g all a a", "count twice"),
        ],
    )
    def test_refuses_a_group(self, line, why):
        with pytest.raises(PolicyError, match=f"Line 3: .*{why}"):
            read(f"witness a {KZ}", f"witness b {KG}", line, "quorum g")

    def test_refuses_that_one_counts_in_two_groups(self):
        with pytest.raises(PolicyError, match="count twice"):
            read(f"witness a {KZ}", "group g any a", "group h any a", "quorum h")

    def test_refuses_one_key_under_two_names(self):
        again = cosignature.vkey_of("another.example/name", builders.key("kz witness"))
        with pytest.raises(PolicyError, match="under whatever name"):
            read(f"witness a {KZ}", f"witness b {again}", "quorum a")

    def test_refuses_a_last_line_that_was_cut_off(self):
        with pytest.raises(PolicyError, match="ends in a newline"):
            policy.parse(b"quorum none")

    def test_refuses_what_is_too_large(self):
        with pytest.raises(PolicyError, match="at most"):
            policy.parse(b"#" * policy.MAX_SIZE + b"\n")


class TestQuorum:
    def test_of_nobody_holds_without_anybody(self):
        assert read("quorum none").holds([])

    def test_of_one_witness_is_that_witness(self):
        found = read(f"witness kz {KZ}", f"witness kg {KG}", "quorum kz")
        assert found.holds([KZ])
        assert not found.holds([KG])

    def test_is_counted_through_groups_of_groups(self):
        found = read(
            f"witness kz {KZ}",
            f"witness kg {KG}",
            f"witness tj {TJ}",
            "group two any kg tj",
            "group all all kz two",
            "quorum all",
        )
        assert found.holds([KZ, TJ])
        assert not found.holds([KG, TJ])
        assert not found.holds([KZ])

    def test_counts_the_type_of_a_key_and_not_its_name(self):
        found = read(f"witness kz {KZ}", "quorum kz")
        assert found.holds([cosignature.vkey_of("renamed.example", builders.key("kz witness"))])


class TestOfTheRegion:
    def region(self, *codes):
        text = policy.regional(builders.LOG, {code: WITNESSES[code] for code in codes})
        return None if text is None else policy.parse(text.encode())

    @pytest.mark.parametrize(
        ("cosigners", "holds"),
        [
            ((KZ, KG, TJ, TM), True),
            ((KZ, KG, TJ, UZ), True),
            ((KZ, KG, TJ, UZ_NHRC), True),
            ((KZ, KG, TJ), False),
            ((KZ, KG, UZ, UZ_NHRC), False),
            ((KZ, KG, TJ, ML_DSA), False),
        ],
    )
    def test_four_countries_are_a_quorum_and_uzbekistan_is_one_of_them(self, cosigners, holds):
        assert self.region(*CODES).holds(cosigners) is holds

    def test_is_there_once_four_countries_have_a_witness(self):
        assert self.region("kz", "kg", "tj") is None
        assert self.region("kz", "kg", "uz", "uz-nhrc") is None
        assert self.region("kz", "kg", "tj", "uz-nhrc").holds([KZ, KG, TJ, UZ_NHRC])

    def test_names_the_log(self):
        assert self.region(*CODES).logs == (builders.LOG,)


class TestOpening:
    POLICY = policy.parse((policy.regional(builders.LOG, WITNESSES) or "").encode())
    HEAD = Checkpoint(ORIGIN, 1, merkle.leaf_hash(b"one entry"))

    def signed(self, *codes, origin=ORIGIN, log=True):
        text = checkpoint.format(Checkpoint(origin, 1, self.HEAD.root))
        lines = [
            cosignature.cosign(text, WITNESSES[c].name, builders.key(f"{c} witness"), 5)
            for c in codes
        ]
        if log:
            lines.append(note.sign(text, builders.LOG, builders.key("log")))
        return note.encode(Note(text, tuple(lines)))

    def test_gives_a_checkpoint_with_a_quorum(self):
        raw = self.signed("kz", "kg", "tj", "tm")
        assert policy.open_witnessed(raw, self.POLICY) == self.HEAD

    def test_refuses_too_few(self):
        with pytest.raises(NoteError, match="Too few"):
            policy.open_witnessed(self.signed("kz", "kg", "tj"), self.POLICY)

    def test_refuses_what_only_witnesses_signed(self):
        with pytest.raises(NoteError, match="No known key"):
            policy.open_witnessed(self.signed("kz", "kg", "tj", "tm", log=False), self.POLICY)

    def test_refuses_a_log_that_signs_for_another(self):
        with pytest.raises(NoteError, match="did not sign it"):
            policy.open_witnessed(
                self.signed("kz", "kg", "tj", "tm", origin="other/log"), self.POLICY
            )
