"""The keys of webhooks: the same whoever derives them, and none like another."""

from datetime import timedelta

from hub.delivery import keyring
from hub.delivery.keyring import Keyring
from hub.delivery.schedule import Endpoint
from hub.delivery.subscription import Filter, Generation, Subscription, rotate
from schemas.webhook import OVERLAP
from tests.builders import LOG_KEY, NOW, ORIGIN, message_id

KEYS = keyring.of_log_key(ORIGIN, LOG_KEY)


def subscription(*secrets):
    url = "https://hooks.example.org/"
    return Subscription(message_id(), "undp", url, Filter(), False, secrets, Endpoint(), 0, "")


def test_every_hub_of_a_log_derives_the_same_keys():
    again = keyring.of_log_key(ORIGIN, LOG_KEY)
    assert again.key == KEYS.key
    assert again.secret("a", 1) == KEYS.secret("a", 1)


def test_no_key_is_like_another():
    other = keyring.of_log_key("other.example/log", LOG_KEY)
    seeds = {
        KEYS.secret("a", 1).raw,
        KEYS.secret("a", 2).raw,
        KEYS.secret("b", 1).raw,
        KEYS.key.seed,
        other.key.seed,
        other.secret("a", 1).raw,
        LOG_KEY.private_bytes_raw(),
    }
    assert len(seeds) == 7


def test_a_keyring_does_not_show_what_it_is_made_of():
    assert repr(Keyring(ORIGIN, b"secret" * 6)) == "Keyring(…)"


def test_a_replaced_secret_signs_until_its_overlap_ends():
    secrets = rotate((Generation(1),), NOW)
    mine = subscription(*secrets)
    new, old = KEYS.secret(mine.id, 2), KEYS.secret(mine.id, 1)
    assert KEYS.signers(mine, NOW) == (new, old, KEYS.key)
    assert KEYS.signers(mine, NOW + OVERLAP) == (new, KEYS.key)


def test_rotating_again_lengthens_nobodys_overlap():
    once = rotate((Generation(1),), NOW)
    twice = rotate(once, NOW + timedelta(hours=1))
    assert [each.number for each in twice] == [3, 2, 1]
    assert twice[2].until == NOW + OVERLAP
    assert rotate(twice, NOW + 2 * OVERLAP) == (
        Generation(4),
        Generation(3, NOW + 3 * OVERLAP),
    )
