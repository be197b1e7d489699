"""HTTPS to the vendor: one request at a time, short deadlines, and a copy of every byte that leaves (C20).

Nothing here decides anything: bytes out, bytes in. No answer is believed for having come over TLS; its signature is what counts,
so an intercepting proxy with a private CA (`ca_file`) may read but not change (A20, A21). No redirect is followed, no cookie is
kept, no proxy is taken from the environment. Design 3.5.
"""

import asyncio
import gzip
import os
import random
import ssl
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

import aiohttp

from licensing.calendar import day_of
from licensing.envelope import MAX_ENVELOPE_BYTES, MEDIA_TYPE, Envelope
from licensing.errors import LicenseError
from licensing.files import write_atomically

CONNECT_S, READ_S = 5.0, 20.0
MAX_ANSWER_BYTES = 8 * MAX_ENVELOPE_BYTES  # an ack may bring a licence, roots and revocations
BACKOFF_FIRST_S, BACKOFF_MOST_S = 5.0, 900.0
MAX_RETRY_AFTER_S = 86_400.0
SENT_DAYS = 400
SENT_BYTES = 64 * 1024 * 1024
LOOPBACK = frozenset({"127.0.0.1", "localhost", "::1"})


class Unreachable(LicenseError):
    """No answer: not connected, TLS refused, too slow, too long. Try again later."""

    def __init__(self, text: str) -> None:
        super().__init__("unreachable", text)


class NodeIdentity(Protocol):
    """The node key, as far as requests need it."""

    @property
    def id(self) -> str: ...
    @property
    def public(self) -> str: ...
    def sign(self, payload_type: str, payload: bytes) -> Envelope: ...


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back. `retry_after`: seconds the server asked to wait, None if it did not."""

    status: int
    body: bytes
    retry_after: float | None = None


def check_endpoint(url: str) -> str:
    """The URL without a slash at its end. Raises LicenseError: only https, but for this machine itself (tests)."""
    parts = urlsplit(url)
    if parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK):
        return url.rstrip("/")
    raise LicenseError("endpoint", f"{url} is not an https:// URL")


def backoff(tries: int, chance: random.Random) -> float:
    """Seconds to wait after the given number of failures: full jitter, 5 s doubling up to 15 min."""
    # 2**8 · 5 s is beyond the cap.
    return chance.uniform(0, min(BACKOFF_MOST_S, BACKOFF_FIRST_S * 2 ** min(tries, 8)))


class SentLog:
    """Every byte sent, by UTC day: a line is a body as it left. 400 days and 64 MB at most, the oldest go.

    Days that are over are compressed, to a fifth.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._last = b""

    def keep(self, data: bytes, now: float) -> None:
        """Keep what is about to leave; the same bytes tried again are kept once. Raises OSError."""
        if data == self._last:
            return
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        day = day_of(now)
        path = self._folder / f"{day}.jsonl"
        is_new_day = not path.exists()
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        with open(descriptor, "ab") as file:
            file.write(data + b"\n")
        self._last = data
        if is_new_day:
            self._compress_all_but(path)
            self._drop_old()

    def last(self, count: int) -> list[bytes]:
        """The latest bodies, the newest first."""
        found: list[bytes] = []
        for path in self._days():
            data = path.read_bytes()
            text = gzip.decompress(data) if path.suffix == ".gz" else data
            found.extend(reversed(text.splitlines()))
            if len(found) >= count:
                break
        return found[:count]

    def _days(self) -> list[Path]:
        """The newest first; of a day that has both (the clock was set back), what was written last."""
        found = [*self._folder.glob("*.jsonl"), *self._folder.glob("*.jsonl.gz")]
        return sorted(found, key=lambda path: (path.name[:10], path.suffix), reverse=True)

    def _compress_all_but(self, today: Path) -> None:
        for path in self._folder.glob("*.jsonl"):
            if path == today:
                continue
            packed = path.with_name(f"{path.name}.gz")
            # gzip files one after another are one; after a crash between the two steps a day's bodies are there twice.
            before = packed.read_bytes() if packed.exists() else b""
            write_atomically(packed, before + gzip.compress(path.read_bytes()))
            path.unlink()

    def _drop_old(self) -> None:
        room = SENT_BYTES
        for place, path in enumerate(self._days()):
            room -= path.stat().st_size
            if place and (place >= SENT_DAYS or room < 0):
                path.unlink()


class Wire:
    """Requests to one of the vendor's endpoints; the next is tried after one that did not answer."""

    def __init__(
        self,
        endpoints: tuple[str, ...],
        sent: SentLog,
        *,
        proxy: str | None = None,
        ca_file: Path | None = None,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
    ) -> None:
        """Raises LicenseError for an endpoint that is no https:// URL."""
        if not endpoints:
            raise LicenseError("endpoint", "the licence names no endpoint to report to")
        self.endpoints = tuple(map(check_endpoint, endpoints))
        self.proxy = proxy
        self._sent = sent
        self._ca_file = ca_file
        self._timeout = aiohttp.ClientTimeout(
            total=2 * connect_s + 2 * read_s,
            connect=connect_s,
            sock_connect=connect_s,
            sock_read=read_s,
        )
        self._context: ssl.SSLContext | None = None
        self._turn = 0

    @property
    def endpoint(self) -> str:
        """The one that is asked next."""
        return self.endpoints[self._turn % len(self.endpoints)]

    async def send(self, path: str, body: bytes, now: float, *, method: str = "POST") -> Answer:
        """Send these bytes. Raises Unreachable. `now` only names the day under which the copy is kept."""
        try:
            await asyncio.to_thread(self._sent.keep, body, now)
        except OSError as error:
            # What cannot be shown to the customer is not sent.
            raise Unreachable(f"no copy of the report could be kept: {error}") from error
        return await self._ask(method, path, body)

    async def look(self, path: str, *, max_bytes: int = MAX_ANSWER_BYTES) -> Answer:
        """GET what everybody may see; nothing is sent. Raises Unreachable."""
        return await self._ask("GET", path, None, max_bytes)

    async def test(self) -> list[dict[str, Any]]:
        """Name, proxy, connection with TLS, HTTP: each step with `ok` and words, up to the first that fails."""
        parts = urlsplit(self.proxy or self.endpoint)
        steps = [{"step": "endpoint", "ok": True, "text": self.endpoint}]
        if self.proxy:
            steps.append({"step": "proxy", "ok": True, "text": _without_password(self.proxy)})
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_S):
                found = await loop.getaddrinfo(parts.hostname, parts.port or 443)
        except (OSError, TimeoutError) as error:
            return [*steps, {"step": "dns", "ok": False, "text": f"{parts.hostname}: {error}"}]
        addresses = ", ".join(sorted({str(each[4][0]) for each in found}))
        steps.append({"step": "dns", "ok": True, "text": f"{parts.hostname}: {addresses}"})
        try:
            answer = await self.look("/healthz")
        except Unreachable as error:
            cause = error.__cause__
            step = "tls" if isinstance(cause, ssl.SSLError | aiohttp.ClientSSLError) else "connect"
            return [*steps, {"step": step, "ok": False, "text": str(error)}]
        is_fine = answer.status == 200
        return [*steps, {"step": "http", "ok": is_fine, "text": f"status {answer.status}"}]

    async def _ask(
        self, method: str, path: str, body: bytes | None, max_bytes: int = MAX_ANSWER_BYTES
    ) -> Answer:
        url = self.endpoint + path
        try:
            if self._context is None:
                self._context = await asyncio.to_thread(_make_context, self._ca_file)
            async with (
                aiohttp.ClientSession(timeout=self._timeout, trust_env=False) as session,
                session.request(
                    method,
                    url,
                    data=body,
                    headers={"Content-Type": MEDIA_TYPE} if body is not None else {},
                    ssl=self._context,
                    proxy=self.proxy,
                    allow_redirects=False,
                ) as response,
            ):
                data = await _read_bounded(response, max_bytes)
                return Answer(response.status, data, _retry_after(response))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            self._turn += 1
            words = _words(error)
            via = f" through the proxy {_without_password(self.proxy)}" if self.proxy else ""
            raise Unreachable(f"{url}{via}: {words}") from error


def _make_context(ca_file: Path | None) -> ssl.SSLContext:
    context = ssl.create_default_context()
    if ca_file is not None:
        context.load_verify_locations(ca_file)
    return context


def _words(error: Exception) -> str:
    """Why it failed, for people: aiohttp's own text shows an object of Python's."""
    match error:
        case aiohttp.ClientConnectorCertificateError():
            return str(error.certificate_error)
        case aiohttp.ClientConnectorError():
            return str(error.os_error) or type(error.os_error).__name__
    return str(error) or type(error).__name__


async def _read_bounded(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    data = bytearray()
    async for part in response.content.iter_chunked(65_536):
        data += part
        if len(data) > max_bytes:
            raise ValueError(f"the answer has more than {max_bytes} bytes")
    return bytes(data)


def _retry_after(response: aiohttp.ClientResponse) -> float | None:
    """RFC 9110 §10.2.3: seconds, or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdigit():
        return min(float(text[:9]), MAX_RETRY_AFTER_S)
    try:
        wait = (parsedate_to_datetime(text) - datetime.now(UTC)).total_seconds()
    except (ValueError, TypeError):
        return None
    return min(max(0.0, wait), MAX_RETRY_AFTER_S)


def _without_password(url: str | None) -> str:
    parts = urlsplit(url or "")
    return f"{parts.scheme}://{parts.hostname}:{parts.port}" if parts.password else url or ""
