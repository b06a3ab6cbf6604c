"""The witness as a server (C2SP tlog-witness), for a log that can reach it.

Our own hub need not: it is asked. Requests are not authenticated, beyond the log's signature.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from hashlib import sha256

from aiohttp import web

from connectors.link import LinkError
from connectors.witness import Witness
from schemas import witness as requests
from schemas.witness import Rejected


@asynccontextmanager
async def listening(witness: Witness, origin: str, host: str, port: int) -> AsyncIterator[None]:
    """Serve ``/add-checkpoint`` and ``/<origin hash>/checkpoint`` at an address.

    Raises:
        OSError: somebody else listens there.
    """
    server = _Server(witness)
    application = web.Application(client_max_size=requests.MAX_SIZE)
    digest = sha256(origin.encode()).hexdigest()
    application.router.add_post("/add-checkpoint", server.add_checkpoint)
    application.router.add_get(f"/{digest}/checkpoint", server.checkpoint)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=2.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        yield
    finally:
        await runner.cleanup()


class _Server:
    def __init__(self, witness: Witness) -> None:
        self._witness = witness

    async def add_checkpoint(self, request: web.Request) -> web.Response:
        try:
            cosigned = await self._witness.cosign(await request.read())
        except Rejected as rejected:
            kind = "text/plain" if rejected.size is None else requests.SIZE_TYPE
            return web.Response(status=rejected.status, body=rejected.body, content_type=kind)
        except LinkError as error:
            return web.Response(status=503, text=f"{error}\n")
        return web.Response(text=self._witness.lines(cosigned))

    async def checkpoint(self, request: web.Request) -> web.Response:
        latest = self._witness.latest
        if latest is None:
            return web.Response(status=404, text="Nothing was cosigned yet.\n")
        return web.Response(body=latest.note, content_type="text/plain", charset="utf-8")
