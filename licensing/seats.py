"""Takes this server's seats and keeps them: asks the vendor, or reads what was carried by hand; one file a licence.

A seat that was refused is asked for again each hour, one whose certificate nears its end in its last week. Giving it back is the
operator's decision, and is not undone by itself. Statements are verified before they are stored, and once more when read.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from licensing import activation as statements
from licensing.envelope import Envelope, decode_envelope, encode_envelope
from licensing.errors import LicenseError
from licensing.files import make_private_folder, read_private, write_atomically
from licensing.installation import Installation
from licensing.model.activation import Activation
from licensing.model.license import License
from licensing.selection import Installed
from licensing.wire import SentLog, Unreachable, Wire, backoff

REFUSED_AGAIN_S = 3_600.0
RENEW_BEFORE_S = 7 * 86_400.0
MOST_AHEAD_S = 86_400.0  # what is to be done later than in a day was put off before the trusted time was set back
MAX_REQUESTS = 8
MAX_ACTIVATION_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class ContactOptions:
    """How the vendor is reached. `endpoint` in the place of the licence's own is for tests."""

    reporting: bool = True
    endpoint: str | None = None
    proxy: str | None = None
    ca_file: Path | None = None
    node_label: str = ""
    version: str = "0"


class Seats:
    """The seats of every licence in force. `adopt` is told of each new activation of the licence that is reported under."""

    def __init__(
        self,
        home: Installation,
        options: ContactOptions,
        *,
        sent: SentLog,
        chance: random.Random,
        told: Callable[[str, str], None],
        adopt: Callable[[Activation], Awaitable[None]],
    ) -> None:
        self._home, self._options, self._sent = home, options, sent
        self._chance, self._told, self._adopt = chance, told, adopt
        self._installed: tuple[Installed, ...] = ()
        self._main: Installed | None = None
        self._ask_at = 0.0
        self._asked = 0  # failures in a row
        self.activations: dict[str, Activation] = {}
        self.refusals: dict[str, str] = {}
        self.failure = ""
        self._extended: dict[
            str, float
        ] = {}  # by acknowledgements, where the licence is not the main one

    @property
    def installed(self) -> tuple[Installed, ...]:
        """The licences that seats are taken under."""
        return self._installed

    def serve(self, chosen: Iterable[Installed], main: Installed | None, *, is_other: bool) -> None:
        """These licences are in force now; of a new one its small file is read. `is_other`: ask at once again."""
        self._installed, self._main = tuple(chosen), main
        for each in self._installed:
            self._recall(each)
        if is_other:
            self._ask_at = 0.0

    def ask_at_once(self) -> None:
        """What was in the way is gone."""
        self._ask_at = 0.0

    async def ask_for_missing(self) -> None:
        now = self._home.clock.now()
        is_early = now < self._ask_at <= now + MOST_AHEAD_S
        if is_early or not self._home.books.wants_seat:
            return
        for each in self._installed:
            if self._needs_seat(each, now):
                try:
                    await self.activate(each)
                except LicenseError as error:
                    self._asked += 1
                    self._ask_at = now + self._pause_after(error)
                    self.failure = str(error)
                    return
        self._asked = 0

    def _pause_after(self, error: LicenseError) -> float:
        pause = backoff(self._asked, self._chance)
        if isinstance(error, statements.ActivationRefused):
            return max(pause if error.is_busy else REFUSED_AGAIN_S, error.retry_after or 0.0)
        return pause if isinstance(error, Unreachable) else REFUSED_AGAIN_S

    def _needs_seat(self, each: Installed, now: float) -> bool:
        held = self.activations.get(each.license_id)
        if held is None:
            return True
        until = float(held.valid_until)
        if each is self._main:
            until = max(until, self._home.books.activation_until)
        until = max(until, self._extended.get(each.license_id, 0.0))
        ends = each.license.terminate_at.timestamp()
        return until < ends and until - now < RENEW_BEFORE_S

    async def activate(self, each: Installed) -> Activation:
        asked_at = self._home.clock.now()
        request = await self.make_request(each)
        try:
            answer = await statements.ask_online(
                self.wire(each.license), request, self._home.clock.now()
            )
        except statements.ActivationRefused as error:
            if not error.is_busy:
                if self.refusals.get(each.license_id) != str(error):
                    self._told("activation_refused", str(error))
                self.refusals[each.license_id] = str(error)
            raise
        return await self.take(each, answer, asked_at=asked_at)

    async def make_request(self, each: Installed) -> Envelope:
        home = self._home
        request = statements.build_request(
            each.license,
            each.opened.sha256,
            home.key,
            fingerprint=home.machine.fingerprint(each.license_id),
            server_class=home.machine.machine_class,
            label=self._options.node_label,
            version=self._options.version,
            wall=home.times().wall,
        )
        waiting = [*home.books.requests, request.payload_sha256()]
        home.books.requests = waiting[-MAX_REQUESTS:]
        await home.save()
        return request

    async def take(
        self, each: Installed, envelope: Envelope, *, asked_at: float = 0.0
    ) -> Activation:
        home, books = self._home, self._home.books
        found = statements.read_activation(
            envelope, home.store.trust, each.license, home.key.id, books.requests
        )
        path = self._activation_path(each)
        make_private_folder(path.parent)
        await asyncio.to_thread(write_atomically, path, encode_envelope(envelope))
        home.clock.signed(float(found.server_time), asked_at=asked_at)
        books.requests.remove(found.in_reply_to)
        self.activations[each.license_id] = found
        self.refusals.pop(each.license_id, None)
        self.failure = ""
        # By its id: while the vendor answered, the files may have been read again.
        if self._main is not None and each.license_id == self._main.license_id:
            await self._adopt(found)
        await home.save()
        return found

    async def ask_anew(self, each: Installed) -> None:
        """The vendor does not know our activation: ask for one. The one we have holds until it is refused."""
        now = self._home.clock.now()
        if now < self._ask_at:
            return
        self._asked += 1
        self._ask_at = now + backoff(self._asked, self._chance)
        try:
            await self.activate(each)
        except LicenseError as error:
            self.failure = str(error)

    def are_known(self) -> None:
        """An acknowledgement came: all is well."""
        self._asked = 0

    def endpoints(self, found: License) -> tuple[str, ...]:
        if self._options.endpoint is not None:
            return (self._options.endpoint,)
        return found.reporting.endpoints

    def wire(self, found: License) -> Wire:
        return Wire(
            self.endpoints(found),
            self._sent,
            proxy=self._options.proxy,
            ca_file=self._options.ca_file,
        )

    def _recall(self, each: Installed) -> None:
        if each.license_id in self.activations:
            return
        try:
            data = read_private(self._activation_path(each), MAX_ACTIVATION_BYTES)
            self.activations[each.license_id] = statements.read_activation(
                decode_envelope(data, max_bytes=MAX_ACTIVATION_BYTES),
                self._home.store.trust,
                each.license,
                self._home.key.id,
                None,
            )
        except FileNotFoundError:
            return
        except (LicenseError, OSError) as error:
            self._told("activation_unreadable", f"{self._activation_path(each)}: {error}")

    def extend(self, license_id: str, until: float) -> None:
        """The vendor was told that this seat is in use: it holds until then."""
        self._extended[license_id] = until

    def forget_all(self) -> None:
        """This is another node now; the files are gone already."""
        self.activations.clear()
        self._extended.clear()
        self._ask_at = 0.0

    def forget(self, each: Installed) -> None:
        self.activations.pop(each.license_id, None)
        self._extended.pop(each.license_id, None)
        self._activation_path(each).unlink(missing_ok=True)

    def _activation_path(self, each: Installed) -> Path:
        return self._home.state_dir / "activations" / f"{each.license_id}.json"
