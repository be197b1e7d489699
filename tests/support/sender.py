"""A server that delivers to hosts of a test: each test gets a domain of its own by a reload, so one process serves them all."""

import itertools
import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.daemon import Daemon, running
from tests.support.host import Host
from tests.support.wire import Wire, wait_until

DEFAULT = """
retry = ["0.3s"]
backoff_initial = "0.3s"
idle_timeout = "0.5s"
max_connections = 1
"""
NO_DNS = '[dns]\nservers = ["127.0.0.1:9"]'


class Sender:
    """`domain` makes a destination, `send` hands a message in, `records` tells what came of it."""

    def __init__(self, server: Daemon) -> None:
        self.server = server
        self._text = server.config.read_text()
        self._numbers = itertools.count(1)

    def domain(self, *hosts: Host | str, name: str = "", **policy: Any) -> str:
        """A new domain whose mail goes to these hosts (none: by MX), with these values of its own."""
        name = name or f"d{next(self._numbers)}.example"
        lines = [f'\n[domain."{name}"]']
        if hosts:
            names = [each.name if isinstance(each, Host) else each for each in hosts]
            lines.append(f"hosts = {_toml(names)}")
        lines += [f"{key} = {_toml(value)}" for key, value in policy.items()]
        self.add("\n".join(lines) + "\n")
        return name

    def add(self, text: str) -> None:
        """More configuration, at once."""
        self._text += text
        self.server.config.write_text(self._text)
        self.server.ask("reload")

    def send(
        self,
        *recipients: str,
        message: bytes = b"Subject: x\r\n\r\nbody\r\n",
        sender: str = "a@sender.example",
    ) -> int:
        """Hand one message in; its number."""
        with Wire(self.server.port) as wire:
            wire.greet()
            answer = wire.deliver(message, sender, *recipients)
            wire.ask("QUIT")
        found = re.match(r"250 2\.6\.0 queued as [0-9a-f]+-([0-9]+)", answer)
        assert found is not None, answer
        return int(found[1])

    def records(self, domain: str, *kinds: str, complete: bool = True) -> list[dict[str, str]]:
        """The accounting records of this domain's queue, of these types (none: all) until now."""
        every = self.server.records() if complete else self.server.records_on_disk()
        return [
            each
            for each in every
            if each["queue"].partition("/")[0] == domain and (not kinds or each["type"] in kinds)
        ]

    def wait_for_records(self, domain: str, *kinds: str, count: int = 1) -> list[dict[str, str]]:
        """The same once there are so many. Raises AssertionError."""
        found: list[dict[str, str]] = []

        def look() -> bool:
            time.sleep(0.03)  # a look reads whole files
            found[:] = self.records(domain, *kinds, complete=False)
            return len(found) >= count

        try:
            wait_until(look)
        except AssertionError:
            log = self.server.log[-2000:]
            raise AssertionError(
                f"{found} of {count} {kinds}, all: {self.records(domain)}\n{log}"
            ) from None
        return found

    def waits(self, what: str) -> list[dict[str, Any]]:
        """Why a queue or a message waits, as `explain` says."""
        rows: list[dict[str, Any]] = self.server.ask("explain", what=what)["waits"]
        return rows


@contextmanager
def a_sender(
    place: Path, *, default: str = DEFAULT, more: str = NO_DNS, **settings: Any
) -> Iterator[Sender]:
    """A running server; no fault of its own may have come up at the end."""
    with running(place, default=default, more=more, **settings) as server:
        yield Sender(server)


def _toml(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return str(value)
    if isinstance(value, dict):
        return "{ " + ", ".join(f"{key} = {_toml(each)}" for key, each in value.items()) + " }"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + ", ".join(_toml(each) for each in value) + "]"
    return f'"{value}"'
