"""Wycheproof: 151 Ed25519 signatures, most of them forged in ways that careless code takes."""

import json
from pathlib import Path

import pytest

from schemas import signature

FILE = Path(__file__).parents[3] / "shared" / "vectors" / "wycheproof_ed25519.json"

pytestmark = pytest.mark.skipif(
    not FILE.is_file(), reason="../shared/vectors/wycheproof_ed25519.json is absent"
)


def cases():
    groups = json.loads(FILE.read_text())["testGroups"] if FILE.is_file() else []
    return [
        pytest.param(group["publicKey"]["pk"], case, id=f"{case['tcId']} {case['comment']}".strip())
        for group in groups
        for case in group["tests"]
    ]


@pytest.mark.parametrize(("public", "case"), cases())
def test_a_signature_holds_exactly_when_the_vector_says_so(public, case):
    value, signed = bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"])
    assert case["result"] in {"valid", "invalid"}
    assert signature.holds(bytes.fromhex(public), value, signed) == (case["result"] == "valid")


def test_all_151_vectors_are_there():
    assert len(cases()) == 151
