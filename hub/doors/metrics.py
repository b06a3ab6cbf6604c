"""What Prometheus reads."""

from aiohttp import web

from hub import metrics
from hub.doors.service import Asked, Service


async def scrape(hub: Service, asked: Asked) -> web.Response:
    """``GET /metrics``: the hub's measures, in Prometheus's text format."""
    headers = {"Content-Type": metrics.CONTENT_TYPE}
    return web.Response(body=hub.metrics.text(), headers=headers)
