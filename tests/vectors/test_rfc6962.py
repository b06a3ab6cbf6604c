"""The published inclusion and consistency proofs, good and damaged, of transparency-dev/merkle."""

import base64
import json
from pathlib import Path

import pytest

from schemas.merkle import ProofError, verify_consistency, verify_inclusion

FOLDER = Path(__file__).parents[3] / "shared" / "vectors" / "rfc6962"

pytestmark = pytest.mark.skipif(
    not FOLDER.is_dir(), reason="the folder ../shared/vectors/rfc6962 is absent"
)


def vectors(name):
    folder = FOLDER / name
    return [
        pytest.param(json.loads(path.read_text()), id=str(path.relative_to(folder)))
        for path in sorted(folder.rglob("*.json"))
    ]


def hashes(vector):
    return [base64.b64decode(value) for value in vector["proof"] or []]


def expect(vector, verify, *arguments):
    if vector["wantErr"]:
        with pytest.raises(ProofError):
            verify(*arguments)
    else:
        verify(*arguments)


@pytest.mark.parametrize("vector", vectors("inclusion"))
def test_an_inclusion_proof_holds_exactly_when_the_vector_says_so(vector):
    leaf, root = (base64.b64decode(vector[name]) for name in ("leafHash", "root"))
    arguments = (vector["leafIdx"], vector["treeSize"], leaf, hashes(vector), root)
    expect(vector, verify_inclusion, *arguments)


@pytest.mark.parametrize("vector", vectors("consistency"))
def test_a_consistency_proof_holds_exactly_when_the_vector_says_so(vector):
    old_root, root = (base64.b64decode(vector[name]) for name in ("root1", "root2"))
    arguments = (vector["size1"], vector["size2"], old_root, root, hashes(vector))
    expect(vector, verify_consistency, *arguments)


def test_all_196_vectors_are_there():
    assert len(vectors("inclusion")) == len(vectors("consistency")) == 98
