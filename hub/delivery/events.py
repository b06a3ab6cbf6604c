"""The events of the messages that are posted, ready for all who get the same.

What was used last is kept, bounded in bytes; anything else is read as it is needed.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence, Set
from typing import Final

from msgspec.structs import replace

from hub.delivery.deliveries import Sent
from hub.delivery.keyring import Keyring, Signed
from schemas import cloudevent, jsontext
from schemas.acceptance import deliver

MAX_BODIES: Final = 16 * 1024 * 1024
"""Bytes of messages and events that are kept ready: many subscriptions get the same ones. A message
that stands in line and is not kept is read again when it is posted."""

READ_AT_ONCE: Final = 32
"""Messages, of 256 KiB each at most."""


class Message:
    """A message for webhooks, and the events made of it, once for the same languages."""

    def __init__(self, sent: Sent) -> None:
        self.sent = sent
        self.events: dict[tuple[str, ...], Signed] = {}

    @property
    def erased(self) -> bool:
        """Whether its content is gone."""
        return self.sent.envelope is None

    @property
    def size(self) -> int:
        """Bytes, of its envelope and its events."""
        made = sum(len(event.body) for event in self.events.values())
        return made + len(self.sent.envelope or b"")

    def erase(self) -> None:
        """Its content is gone from here on, also for whoever has it in hand."""
        self.sent = replace(self.sent, envelope=None)
        self.events.clear()


class Events:
    """The messages used last, bounded in bytes; others are read as they are needed."""

    def __init__(
        self, keyring: Keyring, read: Callable[[Sequence[int]], Awaitable[Mapping[int, Sent]]]
    ) -> None:
        self._keyring = keyring
        self._read = read
        self._kept: OrderedDict[int, Message] = OrderedDict()
        self._size = 0
        self._reading = 0
        self._erased: set[str] = set()

    async def load(self, indices: Set[int]) -> None:
        """Have these ready, as many as may be kept, the first ones first."""
        missing = sorted(indices - self._kept.keys())
        for index in indices & self._kept.keys():
            self._kept.move_to_end(index)
        loaded = 0
        for start in range(0, len(missing), READ_AT_ONCE):
            loaded += await self._load(missing[start : start + READ_AT_ONCE])
            self._trim()
            if loaded > MAX_BODIES // 2:
                break

    async def get(self, index: int) -> Message:
        """One of them; without an envelope it was erased."""
        if index not in self._kept:
            await self._load([index])
        self._kept.move_to_end(index)
        self._trim()
        return self._kept[index]

    async def _load(self, indices: Sequence[int]) -> int:
        """Read these; how many bytes they are."""
        loaded = 0
        self._reading += 1
        try:
            sent = await self._read(indices)
        finally:
            self._reading -= 1
        for index, each in sent.items():
            if index not in self._kept:
                message = self._kept[index] = Message(each)
                if each.id in self._erased:  # while it was read
                    message.erase()
                loaded += message.size
        self._size += loaded
        if not self._reading:
            self._erased.clear()
        return loaded

    def _trim(self) -> None:
        """What was used longest ago gives way; the last one stays, however large it is."""
        while self._size > MAX_BODIES and len(self._kept) > 1:
            _, message = self._kept.popitem(last=False)
            self._size -= message.size

    def erase(self, messages: Iterable[str]) -> None:
        """These are gone, also from what is being read and posted."""
        names = frozenset(messages)
        if self._reading:
            self._erased |= names
        for message in self._kept.values():
            if message.sent.id in names:
                self._size -= message.size
                message.erase()

    def event(self, message: Message, languages: tuple[str, ...]) -> Signed:
        """The event of a message that was not erased."""
        found = message.events.get(languages)
        if found is not None:
            return found
        assert message.sent.envelope is not None
        delivery = deliver(message.sent.acceptance, message.sent.envelope)
        body = jsontext.encode(cloudevent.of_message(self._keyring.origin, delivery, languages))
        made = message.events[languages] = Signed(self._keyring, message.sent.id, body)
        self._size += len(body)
        self._trim()
        return made
