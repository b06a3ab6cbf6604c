"""How much is measured: the whole, and as little as shows that it can be measured."""

import msgspec


class Scale(msgspec.Struct, frozen=True):
    """Counts of messages, unless a field says otherwise."""

    rounds: int = 3
    posts: int = 3_000
    """To the HTTP door in a round."""
    submissions: int = 2_000
    """In the full queue of a round."""
    probes: int = 200
    """One at a time, in a round of latencies."""
    half_load_seconds: float = 10
    """How long, in a round of latencies, half of what the hub can do is published."""
    outage: int = 20_000
    """What piles up while the hub is away."""
    backlog: int = 200_000
    """What waits for the hub whose memory is measured."""
    backlog_seconds: float = 30
    """How long that hub works on it."""
    connector: int = 1_000
    """What the connector receives whose memory is measured."""
    entries: int = 100_000
    """Of the log that is hashed again."""
    proofs: int = 10_000
    """Inclusion proofs in one batch."""

    webhooks: int = 200
    """Messages that are posted to each of a hundred endpoints in a round."""
    queued: int = 1_000
    """Messages that each of a hundred subscriptions waits for when the worker is weighed."""
    queued_seconds: float = 110
    """How long it works on them, unless it is done before."""


WHOLE = Scale()

TINY = Scale(
    rounds=1,
    posts=30,
    submissions=60,
    probes=5,
    half_load_seconds=0.3,
    outage=90,
    backlog=300,
    backlog_seconds=0.5,
    connector=20,
    entries=700,
    proofs=100,
    webhooks=2,
    queued=3,
    queued_seconds=1,
)
