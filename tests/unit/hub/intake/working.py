"""Working copies for the tests of jobs: a batch upon the default directory, with facts given."""

from msgspec.structs import replace

from hub.intake.batch import Batch, Loaded, State
from hub.ledger.sequence import Tree
from tests import builders

LOG = builders.directory_log()
SALTS = b"".join(builders.salt(str(number)) for number in range(100))
NOTHING = Loaded(messages={}, notices={}, tokens=set(), sent={}, deliveries={}, joins={})


def batch(*changes, now=builders.NOW, positions=None, **facts):
    """A batch after the default directory's entries and some changes; ``facts`` were loaded."""
    log = [*LOG, *changes]
    state = State(Tree(len(log)), builders.fold(log), positions or {})
    empty = {name: type(getattr(NOTHING, name))() for name in NOTHING.__struct_fields__}
    return Batch(state, replace(NOTHING, **empty | facts), now, SALTS)


def recorded(batch):
    """Type, actor, subject and public part of what a batch adds to the log."""
    return [
        (made.entry.type, made.entry.actor, made.entry.subject, made.entry.public)
        for made in batch.entries
    ]
