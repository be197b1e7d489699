"""An HTTP server for pages we show: aiohttp, set up once, with a bound on everything a stranger could make grow.

GET and HEAD of fixed paths, one request a connection. Connections are counted, each has a deadline from its first byte to its
last, each page has one to be made; a request's body is never read. It listens on the address it is given: that this is loopback
unless the operator says otherwise is the configuration's matter.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import NamedTuple

import structlog
from aiohttp import web

from mta.io.listen import open_listener

logger = structlog.get_logger()

MAX_CONNECTIONS = 64
CONNECTION_DEADLINE_S = 15.0  # a scrape takes well under one second
PAGE_DEADLINE_S = 5.0
SWEEP_S = 1.0
MAX_LINE = 2048  # bytes of the request line, and of a header field
_SECURITY = {"X-Content-Type-Options": "nosniff", "Cache-Control": "no-store"}


class Page(NamedTuple):
    """What a path shows."""

    body: bytes
    content_type: str
    status: int = 200


MakePage = Callable[[], Awaitable[Page]]


class HttpServer:
    """Serves pages by path from `start` to `close`. Lives on one loop."""

    def __init__(
        self,
        pages: Mapping[str, MakePage],
        *,
        max_connections: int = MAX_CONNECTIONS,
        deadline_s: float = CONNECTION_DEADLINE_S,
    ) -> None:
        self._pages = pages
        self._max_connections = max_connections
        self._deadline_s = deadline_s
        self._http: web.Server | None = None
        self._listening: asyncio.Server | None = None
        self._sweeper: asyncio.Task[None] | None = None
        self._since: dict[web.RequestHandler, float] = {}

    @property
    def address(self) -> tuple[str, int]:
        """Where it listens; raises RuntimeError before `start`."""
        if self._listening is None:
            raise RuntimeError("it does not listen")
        name = self._listening.sockets[0].getsockname()
        return name[0], name[1]

    async def start(self, address: str) -> None:
        """Listen on `address` (host:port). Raises OSError that names it."""
        loop = asyncio.get_running_loop()
        self._http = web.Server(
            self._answer,
            access_log=None,
            max_line_size=MAX_LINE,
            max_field_size=MAX_LINE,
            lingering_time=0.0,
        )
        self._listening = await loop.create_server(self._accepted, sock=open_listener(address))
        self._sweeper = loop.create_task(self._sweep())

    async def close(self) -> None:
        """Stop listening, end what runs."""
        if self._listening is not None:
            self._listening.close()
        if self._sweeper is not None:
            self._sweeper.cancel()
            await asyncio.gather(self._sweeper, return_exceptions=True)
        if self._http is not None:
            await self._http.shutdown(timeout=1.0)

    def _accepted(self) -> asyncio.BaseProtocol:
        assert self._http is not None
        if len(self._http.connections) >= self._max_connections:
            return _Refusal()
        return self._http()

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        response = await self._response(request)
        response.headers.update(_SECURITY)
        response.force_close()
        return response

    async def _response(self, request: web.BaseRequest) -> web.Response:
        make = self._pages.get(request.path)
        if make is None:
            return web.Response(status=404, text="there is no such page\n")
        if request.method not in ("GET", "HEAD"):
            return web.Response(status=405, text="GET only\n", headers={"Allow": "GET, HEAD"})
        try:
            async with asyncio.timeout(PAGE_DEADLINE_S):
                page = await make()
        except TimeoutError:
            return web.Response(status=503, text="the page could not be made in time\n")
        except (
            Exception
        ):  # the border of a request: whoever asked hears of it, the log has the rest
            logger.exception("a fault of ours in a page", path=request.path)
            return web.Response(status=500, text="a fault of ours; the log has it\n")
        return web.Response(
            status=page.status, body=page.body, headers={"Content-Type": page.content_type}
        )

    async def _sweep(self) -> None:
        """End the connections whose time is over: aiohttp itself waits for a request's end without one."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(SWEEP_S, self._deadline_s))
            assert self._http is not None
            now, open_now = loop.time(), list(self._http.connections)
            self._since = {each: self._since.get(each, now) for each in open_now}
            for each, since in self._since.items():
                if now - since >= self._deadline_s and each.transport is not None:
                    each.transport.abort()


class _Refusal(asyncio.Protocol):
    """For one connection too many."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        transport.close()
