"""The server of pages: what it shows, and that no client can hold or fill it."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest

from mta.io.http import HttpServer, Page
from mta.io.listen import open_listener


async def hello() -> Page:
    return Page(b"hello\n", "text/plain; charset=utf-8")


async def broken() -> Page:
    raise ValueError("secret")


@asynccontextmanager
async def a_server(
    *,
    max_connections: int = 64,
    deadline_s: float = 15.0,
    slow: Callable[[], Awaitable[Page]] = hello,
) -> AsyncIterator[HttpServer]:
    pages = {"/hello": hello, "/broken": broken, "/slow": slow}
    server = HttpServer(pages, max_connections=max_connections, deadline_s=deadline_s)
    await server.start("127.0.0.1:0")
    try:
        async with asyncio.timeout(20):
            yield server
    finally:
        await server.close()


async def talk(server: HttpServer, request: bytes) -> tuple[str, str, bytes]:
    """Status line, header in lower case, body; the server hangs up by itself."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(request)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    status, _, header = head.decode().partition("\r\n")
    return status, header.lower(), body


async def test_a_page_is_shown_and_the_connection_ends() -> None:
    async with a_server() as server:
        status, header, body = await talk(server, b"GET /hello?x=1 HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, body) == ("HTTP/1.1 200 OK", b"hello\n")
        assert "content-type: text/plain; charset=utf-8" in header
        assert "connection: close" in header
        assert "nosniff" in header
        status, header, body = await talk(server, b"HEAD /hello HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (status, body) == ("HTTP/1.1 200 OK", b"")
        assert "content-length: 6" in header


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET /nosuch HTTP/1.1", "404 Not Found"),
        ("POST /hello HTTP/1.1", "405 Method Not Allowed"),
        ("GET /broken HTTP/1.1", "500 Internal Server Error"),
        ("nonsense", "400 Bad Request"),
        (f"GET /{'x' * 5000} HTTP/1.1", "400 Bad Request"),
    ],
)
async def test_everything_else_is_refused_and_nothing_of_us_is_told(
    request_line: str, status: str
) -> None:
    async with a_server() as server:
        request = f"{request_line}\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode()
        told, _, body = await talk(server, request)
        assert told.endswith(status)
        assert b"secret" not in body
        assert b"Traceback" not in body


async def test_a_client_that_does_not_finish_its_request_is_cut_off() -> None:
    async with a_server(deadline_s=0.2) as server:
        for sent in (b"", b"GET /hello HT", b"GET /hello HTTP/1.1\r\nHost: x\r\n"):
            reader, writer = await asyncio.open_connection(*server.address)
            writer.write(sent)
            try:
                said = await reader.read()
            except ConnectionResetError:
                said = b""
            assert said == b""
            writer.close()


async def test_a_body_that_never_comes_holds_nobody() -> None:
    async with a_server(deadline_s=0.5) as server:
        request = b"POST /hello HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\nabc"
        status, _, _ = await talk(server, request)
        assert status.endswith("405 Method Not Allowed")


async def test_one_connection_too_many_is_closed_at_once_and_the_others_are_served() -> None:
    async with a_server(max_connections=2) as server:
        held = [await asyncio.open_connection(*server.address) for _ in range(2)]
        reader, writer = await asyncio.open_connection(*server.address)
        assert await reader.read() == b""
        writer.close()
        for reader, writer in held:
            writer.write(b"GET /hello HTTP/1.1\r\nHost: x\r\n\r\n")
            assert (await reader.read()).endswith(b"hello\n")
            writer.close()


async def test_an_address_that_is_taken_is_named() -> None:
    taken = open_listener("127.0.0.1:0")
    address = f"127.0.0.1:{taken.getsockname()[1]}"
    server = HttpServer({})
    with pytest.raises(OSError, match=f"cannot listen on {address}"):
        await server.start(address)
    await server.close()
    taken.close()
