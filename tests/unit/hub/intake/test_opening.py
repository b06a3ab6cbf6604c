"""What was handed in is opened again only where the key may have become known in between."""

import pytest

from hub.intake import admission
from hub.intake.admission import Opened
from hub.intake.opening import Opening
from schemas.directory import Directory
from tests import builders
from tests.builders import message, signed

KNOWN = builders.directory()
NOBODY = Directory()


def opening(raw, directory):
    looks = []

    def read(raw, directory):
        looks.append(directory)
        return admission.open_envelope(raw, directory)

    return Opening(raw, directory, read), looks


def test_a_key_that_another_hub_has_learned_is_found_when_it_is_recorded():
    made, _ = opening(signed(message()), NOBODY)
    assert made.found.code == "unknown-key"
    made.look_again(KNOWN)
    assert isinstance(made.found, Opened)


@pytest.mark.parametrize(
    ("raw", "at_the_door", "when_recorded"),
    [
        (signed(message()), KNOWN, Directory()),
        (b"{}", NOBODY, KNOWN),
        (signed(message()), NOBODY, NOBODY),
    ],
    ids=["it was opened", "it is refused for something else", "nothing is new"],
)
def test_nothing_is_opened_twice_in_vain(raw, at_the_door, when_recorded):
    made, looks = opening(raw, at_the_door)
    made.look_again(when_recorded)
    assert looks == [at_the_door]
