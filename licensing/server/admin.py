"""The face for the vendor: another port, and only with a client certificate of the vendor's own authority (mTLS).

Everything that changes something stands in the audit log with the name in the certificate, in the same commit.
"""

import dataclasses
from collections.abc import Awaitable, Callable, Coroutine
from typing import Annotated, Any

import msgspec
from aiohttp import web
from msgspec.structs import asdict

from licensing.envelope import encode_envelope
from licensing.errors import LicenseError
from licensing.server.activating import release
from licensing.server.answers import Answer, refuse
from licensing.server.book import verify_license, verify_revocations
from licensing.server.chain import first_break
from licensing.server.commit import Busy, Committer, NotCommitted
from licensing.server.desk import Desk, note
from licensing.server.incidents import Incidents
from licensing.server.leasing import reclaim_by_hand
from licensing.server.roles import EVERYBODY, Roles, name_of
from licensing.server.rows import LicenseRow
from licensing.server.signer import read_envelope
from licensing.server.store import Store

MAX_BODY = 256 * 1024
MAX_ROWS = 10_000  # of any list; the answer says when there is more
MAX_AUDIT = 1_000

# No blank, no angle, no control byte: it stands in a header and in RCPT.
Address = Annotated[
    str,
    msgspec.Meta(
        max_length=254, pattern=r"^[^\s<>@,;:\"\x00-\x20\x7f]+@[^\s<>@,;:\"\x00-\x20\x7f]+\Z"
    ),
]
Handler = Callable[[web.Request], Awaitable[Any]]


class _Reclaim(msgspec.Struct, forbid_unknown_fields=True):
    assume_used: bool = False


class _Contacts(msgspec.Struct, forbid_unknown_fields=True):
    contacts: Annotated[list[Address], msgspec.Meta(max_length=20)]


class AdminFace:
    """What the vendor's people may look at and do. `now` gives seconds since 1970."""

    def __init__(
        self,
        desk: Desk,
        committer: Committer,
        incidents: Incidents,
        *,
        now: Callable[[], float],
        roles: Roles = EVERYBODY,
    ) -> None:
        self._roles = roles
        self._desk = desk
        self._committer = committer
        self._incidents = incidents
        self._now = now

    def application(self) -> web.Application:
        """The routes under /admin/v1."""
        app = web.Application(client_max_size=MAX_BODY)
        routes: tuple[tuple[str, str, Handler], ...] = (
            ("GET", "licenses", self._licenses),
            ("POST", "licenses", self._import),
            ("GET", "nodes", self._nodes),
            ("POST", "nodes/{id}/release", self._release),
            ("GET", "leases", self._leases),
            ("POST", "leases/{id}/reclaim", self._reclaim),
            ("GET", "usage", self._usage),
            ("GET", "findings", self._findings),
            ("POST", "findings/{id}/clear", self._clear),
            ("POST", "revocations", self._revoke),
            ("GET", "audit", self._audit),
            ("GET", "errors", self._errors),
            ("GET", "licenses/{id}/contacts", self._contacts),
            ("POST", "licenses/{id}/contacts", self._set_contacts),
            ("GET", "letters", self._letters),
        )
        for method, path, handler in routes:
            app.router.add_route(
                method, f"/admin/v1/{path}", _wrap(self._allowed(handler, changes=method != "GET"))
            )
        return app

    def _allowed(self, handler: Handler, *, changes: bool) -> Handler:
        async def answered(request: web.Request) -> Any:
            certificate = request.get_extra_info("peercert")
            why_not = self._roles.why_not(certificate, changes=changes)
            if why_not:
                raise LicenseError("forbidden", why_not)
            return await handler(request)

        return answered

    # -- letters --------------------------------------------------------------------------------------

    async def _contacts(self, request: web.Request) -> Any:
        name = request.match_info["id"]
        found = await self._committer.run(lambda store: store.contacts(name))
        return {"license_id": name, "contacts": found}

    async def _set_contacts(self, request: web.Request) -> Any:
        """Whom the notices of a licence go to from now on."""
        asked = msgspec.json.decode(await request.read(), type=_Contacts)
        name, actor, now = request.match_info["id"], _actor(request), int(self._now())
        if self._desk.book.newest(name) is None:
            raise LicenseError("not_found", f"no licence is known as {name[:40]}")

        def write(store: Store) -> None:
            store.put_contacts(name, asked.contacts)
            note(store, now, actor, "contacts", license=name, addresses=len(asked.contacts))

        await self._committer.run(write)
        return {"license_id": name, "contacts": sorted(set(asked.contacts))}

    async def _letters(self, request: web.Request) -> Any:
        name = request.query.get("license")
        rows = await self._committer.run(lambda store: store.letters(name, MAX_ROWS))
        return [asdict(row) for row in rows]

    # -- licences -------------------------------------------------------------------------------------

    async def _licenses(self, _: web.Request) -> Any:
        return [
            {
                "license_id": known.license.license_id,
                "revision": known.license.revision,
                "kind": known.license.kind,
                "licensee": known.license.licensee.name,
                "order_ref": known.license.order_ref,
                "not_before": known.license.not_before,
                "expires_at": known.license.expires_at,
                "sha256": known.sha256,
            }
            for known in self._desk.book.all()
        ]

    async def _import(self, request: web.Request) -> Any:
        """A signed licence. A higher revision of one that is known goes to its nodes with their next acknowledgement."""
        known = verify_license(read_envelope(await request.read()), self._desk.trust)
        license, actor, now = known.license, _actor(request), int(self._now())
        row = LicenseRow(
            license.license_id, license.revision, known.sha256, encode_envelope(known.envelope), now
        )
        held = self._desk.book.at(license.license_id, license.revision)
        if held is not None and held.sha256 != known.sha256:
            raise LicenseError(
                "revision",
                f"another file is known as revision {license.revision} of {license.license_id}: issue it with a higher one",
            )

        def write(store: Store) -> None:
            store.put_license(row)
            note(store, now, actor, "import", license=row.license_id, revision=row.revision)

        await self._committer.run(write)
        self._desk.book.add(known)
        return {"license_id": row.license_id, "revision": row.revision, "sha256": row.sha256}

    async def _revoke(self, request: web.Request) -> Any:
        envelope = read_envelope(await request.read())
        book, actor, now = self._desk.book, _actor(request), int(self._now())
        found = verify_revocations(envelope, self._desk.trust, book.revocations_number)

        def write(store: Store) -> None:
            store.put_revocations(found.number, encode_envelope(envelope), now)
            note(store, now, actor, "revocations", number=found.number)

        await self._committer.run(write)
        book.revoke(envelope, found)
        return {"number": found.number, "revoked": [each.license_id for each in found.revoked]}

    # -- nodes and leases -----------------------------------------------------------------------------

    async def _nodes(self, request: web.Request) -> Any:
        name = request.query.get("license")
        rows = await self._committer.run(lambda store: store.seated(name, MAX_ROWS))
        hidden = ("node_pub", "offer_token", "fp")
        return [
            {key: value for key, value in asdict(row).items() if key not in hidden} for row in rows
        ]

    async def _release(self, request: web.Request) -> Any:
        """Free a seat. What is left of its leases stays reserved until it is reclaimed: the node may still use it."""
        name, actor, now = request.match_info["id"], _actor(request), int(self._now())

        def write(store: Store) -> bool:
            seat = store.activation(name)
            if seat is None or seat.released_at is not None:
                return False
            release(store, seat, now, actor, "released by the vendor")
            return True

        if not await self._committer.run(write):
            raise LicenseError("not_found", f"no node has a seat as {name}")
        return {"activation_id": name, "released": True}

    async def _leases(self, request: web.Request) -> Any:
        name = _asked(request, "license")
        rows = await self._committer.run(lambda store: store.leases(name, MAX_ROWS))
        return [asdict(row) for row in rows]

    async def _reclaim(self, request: web.Request) -> Any:
        terms = msgspec.json.decode(await request.read() or b"{}", type=_Reclaim)
        name, actor, now = request.match_info["id"], _actor(request), int(self._now())

        def write(store: Store) -> int | None:
            lease = store.lease(name)
            if lease is None or lease.state != "open":
                return None
            reclaim_by_hand(store, lease, assume_used=terms.assume_used)
            note(store, now, actor, "reclaim", lease=name, assume_used=int(terms.assume_used))
            return lease.rest

        rest = await self._committer.run(write)
        if rest is None:
            raise LicenseError("not_found", f"no lease {name} is open")
        return {"lease": name, "emails": rest, "assume_used": terms.assume_used}

    # -- figures --------------------------------------------------------------------------------------

    async def _usage(self, request: web.Request) -> Any:
        name = _asked(request, "license")
        since, until = request.query.get("since", ""), request.query.get("until", "9999-12-31")
        rows = await self._committer.run(lambda store: store.usage(name, since, until, MAX_ROWS))
        days: dict[str, int] = {}
        for row in rows:
            days[row.day] = days.get(row.day, 0) + row.emails
        return {
            "license_id": name,
            "emails": sum(days.values()),
            "days": days,
            "nodes": [asdict(row) for row in rows],
            "complete": len(rows) < MAX_ROWS,
        }

    async def _findings(self, request: web.Request) -> Any:
        name = request.query.get("license")
        rows = await self._committer.run(lambda store: store.findings(name, MAX_ROWS))
        return [asdict(row) for row in rows]

    async def _clear(self, request: web.Request) -> Any:
        text = request.match_info["id"]
        number = _number(text)
        actor, now = _actor(request), int(self._now())

        def write(store: Store) -> bool:
            found = store.finding(number)
            if found is None or found.cleared_at is not None:
                return False
            store.clear_finding(number, now, actor)
            if found.code == "SEAT_MOVES":
                store.forget_moves(found.license_id)  # that is what the customer asked for (A34)
            note(store, now, actor, "clear", finding=number, code=found.code)
            return True

        if not await self._committer.run(write):
            raise LicenseError("not_found", f"no finding {text[:20]} is open")
        return {"finding": number, "cleared": True}

    async def _audit(self, request: web.Request) -> Any:
        after = _number(request.query.get("after", "0"))
        rows = await self._committer.run(lambda store: store.audit(after, MAX_AUDIT))
        broken = first_break(rows, rows[0].prev) if rows else None
        return {
            "records": [_as_told(row.number, row.record, row.prev, row.hash) for row in rows],
            "first_break": broken,
        }

    async def _errors(self, request: web.Request) -> Any:
        name = request.query.get("license", "")
        return [dataclasses.asdict(each) for each in self._incidents.of(name, self._now())]


def _as_told(number: int, record: bytes, prev: str, chained: str) -> dict[str, Any]:
    """A line of the audit log for people; `record` is the exact text that the hash covers."""
    return {"number": number, "record": record.decode(), "prev": prev, "hash": chained}


def _wrap(handler: Handler) -> Callable[[web.Request], Coroutine[Any, Any, web.Response]]:
    async def answered(request: web.Request) -> web.Response:
        try:
            found = await handler(request)
        except LicenseError as error:
            status = {"not_found": 404, "forbidden": 403}.get(error.code, 400)
            return _as_response(refuse(status, error.code, str(error)))
        except msgspec.MsgspecError as error:
            return _as_response(refuse(400, "SCHEMA", str(error)))
        except (Busy, NotCommitted) as error:
            return _as_response(refuse(503, "DATABASE", str(error), retry_after_s=5))
        return web.Response(body=msgspec.json.encode(found), content_type="application/json")

    return answered


def _as_response(answer: Answer) -> web.Response:
    return web.Response(body=answer.body, status=answer.status, content_type="application/json")


def _asked(request: web.Request, name: str) -> str:
    value = request.query.get(name)
    if not value:
        raise LicenseError("schema", f"say which {name}: ?{name}=…")
    return value


def _number(text: str) -> int:
    """The row's number that was asked for, as large as SQLite has them; 0, which no row has, for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _actor(request: web.Request) -> str:
    """The common name of the client's certificate, which the TLS layer has verified."""
    return name_of(request.get_extra_info("peercert"))
