"""Witnesses and quorums, for any history that a log may show and any set that may collude."""

import itertools

from hypothesis import example, given
from hypothesis import strategies as st

from schemas import checkpoint, cosignature, merkle, policy, witness
from schemas.checkpoint import Checkpoint
from schemas.witness import Rejected, Request
from tests import builders

ORIGIN = builders.LOG.name
LOGS = {ORIGIN: builders.LOG}
SIZES = st.integers(0, 12)


def history(seed, shared):
    """The leaf hashes of one history; the first ``shared`` are those of all others."""
    return [
        merkle.leaf_hash(b"%d" % n if n < shared else b"%d of %d" % (n, seed)) for n in range(13)
    ]


def head(leaves, size):
    return Checkpoint(ORIGIN, size, merkle.root(leaves[:size]))


def ask(leaves, old, size, proof=None):
    if proof is None:
        tiles = merkle.append(0, {}, leaves)
        proof = merkle.consistency_proof(old, size, tiles) if 0 < old <= size else []
    at = checkpoint.sign_checkpoint(head(leaves, size), builders.LOG, builders.LOG_KEY)
    return Request(old, tuple(proof), at)


def consistent(one, other):
    """Whether one cosigned (history, size) extends the other, judged by the leaves themselves."""
    (leaves, size), (more, larger) = sorted((one, other), key=lambda cosigned: cosigned[1])
    return leaves[:size] == more[:size] and size <= larger


@given(st.integers(0, 12), st.lists(st.tuples(st.booleans(), SIZES, SIZES), max_size=12))
@example(4, [(False, 0, 6), (True, 6, 7), (True, 4, 7), (False, 6, 9)])
def test_a_witness_never_cosigns_a_fork_and_never_goes_back(shared, requests):
    histories = history(0, shared), history(1, shared)
    latest: dict[str, Checkpoint] = {}
    cosigned = []
    for which, old, size in requests:
        leaves = histories[which]
        try:
            accepted = witness.check(ask(leaves, old, size), LOGS, latest)
        except Rejected:
            continue
        latest = {ORIGIN: accepted.checkpoint}
        cosigned.append((leaves, size))
    assert [size for _, size in cosigned] == sorted(size for _, size in cosigned)
    assert all(consistent(*pair) for pair in itertools.combinations(cosigned, 2))


@given(SIZES, SIZES, st.lists(st.binary(min_size=32, max_size=32), max_size=6))
def test_only_the_very_proof_of_consistency_is_taken(old, size, proof):
    leaves = history(0, 12)
    tiles = merkle.append(0, {}, leaves)
    right = merkle.consistency_proof(old, size, tiles) if 0 < old <= size else []
    try:
        witness.check(ask(leaves, old, size, proof), LOGS, {ORIGIN: head(leaves, old)})
    except Rejected:
        assert proof != right or old > size
    else:
        assert proof == right


@given(st.binary(max_size=400))
@example(b"old 0\n\n")
@example(b"old 0\n\nhub.example/log\n0\n")
def test_any_bytes_give_a_request_or_the_one_error(raw):
    try:
        found = witness.parse(raw)
    except Rejected:
        return
    assert witness.encode(found) == raw


@given(st.binary(max_size=300))
def test_any_bytes_give_a_policy_or_the_one_error(raw):
    try:
        found = policy.parse(raw)
    except policy.PolicyError:
        return
    assert found.quorum == policy.NONE or found.quorum in (*found.witnesses, *found.groups)


NAMES = [f"w{n}" for n in range(7)]
VKEYS = [cosignature.vkey_of(f"{ORIGIN}/{name}", builders.key(name)) for name in NAMES]


@given(st.integers(1, 7), st.integers(1, 7), st.sets(st.sampled_from(range(7))))
def test_a_quorum_of_k_holds_for_any_k_and_for_no_fewer(count, threshold, cosigners):
    threshold = min(threshold, count)
    lines = [f"witness {n} {v}\n" for n, v in zip(NAMES[:count], VKEYS, strict=False)]
    group = f"group g {threshold} {' '.join(NAMES[:count])}\nquorum g\n"
    found = policy.parse("".join([*lines, group]).encode())
    among = [VKEYS[n] for n in cosigners]
    assert found.holds(among) == (sum(n < count for n in cosigners) >= threshold)


@given(st.sets(st.sampled_from(["kz", "kg", "tj", "tm", "uz", "uz-nhrc"]), max_size=4))
def test_two_histories_of_the_region_need_the_collusion_of_two_countries_at_least(colluding):
    """Any two quorums of 4 in 5 share three countries, and each of these has cosigned both.

    Either institution stands for Uzbekistan: two honest ones that are shown different histories
    are one of the three.
    """
    codes = ["kz", "kg", "tj", "tm", "uz", "uz-nhrc"]
    witnesses = {
        code: cosignature.vkey_of(f"{ORIGIN}/{code}", builders.key(f"{code} witness"))
        for code in codes
    }
    region = policy.parse((policy.regional(builders.LOG, witnesses) or "").encode())
    honest = {code for code in codes if code not in colluding}
    # Each honest witness sees one of the two histories; those that collude cosign both.
    forked = any(
        region.holds([witnesses[code] for code in {*side, *colluding}])
        and region.holds([witnesses[code] for code in (honest - set(side)) | colluding])
        for size in range(len(honest) + 1)
        for side in itertools.combinations(sorted(honest), size)
    )
    countries = {code.partition("-")[0] for code in colluding}
    needed = 2 if "uz" not in countries else 3
    assert forked == (len(countries) >= needed)
