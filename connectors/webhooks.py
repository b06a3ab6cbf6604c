"""Our own webhooks: the hub posts them elsewhere, and here is seen whether that fails for long."""

from typing import Final

from connectors.alarms import Finding
from connectors.link import HubRefused
from connectors.link.http import HttpLink, Webhook
from connectors.parts import Parts

KINDS: Final = {"warned": "webhook-failing", "disabled": "webhook-disabled"}
"""The alarm for each state of an endpoint that needs somebody."""


class Webhooks:
    """The worker that asks the hub how the endpoints of our subscriptions stand."""

    def __init__(self, parts: Parts, hub: HttpLink) -> None:
        self._parts = parts
        self._hub = hub

    async def step(self) -> None:
        """Raise an alarm for each endpoint that fails for long; end it where that is over.

        Raises:
            LinkError: the hub cannot be reached.
        """
        try:
            found = [_finding(each) for each in await self._hub.webhooks() if each.state in KINDS]
        except HubRefused as refused:
            if refused.retryable:
                raise
            # It sends no webhooks, or does not talk to us, of which the others tell.
            return
        store, now = self._parts.store, self._parts.now()
        standing = {(each.kind, each.subject) for each in found}
        with store.transaction():
            raised = store.raise_alarms(found, now)
            for alarm in store.alarms():
                known = alarm.kind, alarm.subject
                if alarm.kind in KINDS.values() and known not in standing:
                    store.end_alarm(*known, now)
        self._parts.events.findings(raised)


def _finding(webhook: Webhook) -> Finding:
    """The URL is not told: whoever knows it may be able to post there."""
    since = f" since {webhook.failing_since}" if webhook.failing_since else ""
    says = {
        "warned": f"has failed{since}; after five days it is disabled",
        "disabled": f"has failed{since} or is gone, and nothing more is sent there",
    }
    sentence = f"The endpoint of our webhook subscription {webhook.id} {says[webhook.state]}."
    return Finding(KINDS[webhook.state], webhook.id, sentence)
