"""The licences installed on this machine: `license.d/*.lic`, and what must be remembered of them in the state directory.

A file is verified before it is written, so that a bad one never replaces a good one (A3); what was good once is kept as a copy,
and the copy serves when the file is altered. The highest revision seen in force is remembered by key and licence, and an older
one is refused for ever (A7): by key, so that a stolen key's revision 10⁹ cannot stand in the way of the repair (A36). Newer roots
and revocations are kept here too. Nothing is read beyond its bound; what others could read is refused (C17). Design 3.2, 3.3.

All of it is blocking, and quick; the guard calls it in threads, and one at a time gets in. Never deletes what it did not replace.
"""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from threading import RLock

import msgspec

from licensing.envelope import (
    MAX_ENVELOPE_BYTES,
    Envelope,
    decode_closed,
    decode_envelope,
    encode_envelope,
    format_armour,
    parse_armour,
)
from licensing.errors import LicenseError
from licensing.files import (
    make_private_folder,
    read_bounded,
    read_private,
    sync_folder,
    write_atomically,
)
from licensing.memory import Memory
from licensing.model.fields import REVOCATIONS
from licensing.model.license import License
from licensing.model.trust import Revocation, Revocations
from licensing.selection import GROUP_OF, Installed, PassedOver, Selection, select
from licensing.trust import MAX_ROOT_BYTES, Trust, read_chain

MAX_FILES = 64  # in license.d; a node has a handful
MAX_FILE_BYTES = 2 * MAX_ENVELOPE_BYTES  # armoured
MAX_COPIES = 256
MAX_MEMORY_BYTES = 1024 * 1024

# Codes that mean: these bytes are not what the vendor signed.
ALTERED = frozenset({"malformed", "signature", "too_large"})


class LicenseStore:
    """The licence files and the memory beside them. What it says is verified; what it refuses has changed nothing."""

    def __init__(self, license_dir: Path, state_dir: Path, trust: Trust) -> None:
        """Reads what is remembered. Raises LicenseError when it is open to others (C17), OSError."""
        self._dir = license_dir
        self._state = state_dir
        self._copies = state_dir / "good"
        self._turn = RLock()  # two threads that remember at once would forget one of the two
        self._trust = trust
        self._kept_root = trust.root.version  # what need not be written again
        self._memory = self._kept_memory = Memory()  # the second as it is on disk
        self._revocations: Revocations | None = None
        self.troubles: tuple[str, ...] = ()  # what of the memory was damaged, for people
        self._load("roots.json", MAX_ROOT_BYTES, self._recall_roots)
        self._load("store.json", MAX_MEMORY_BYTES, self._recall_memory)
        self._load("revocations.json", MAX_ENVELOPE_BYTES, self._recall_revocations)

    @property
    def trust(self) -> Trust:
        """With every root that was adopted."""
        return self._trust

    @property
    def revocations_number(self) -> int:
        """Of the list held; 0 for none."""
        return self._revocations.number if self._revocations else 0

    # -- what is there --------------------------------------------------------------------------------

    def read(self, now: float) -> Selection:
        """Look at every file, choose, and remember. `now`: seconds since 1970 of the trusted clock."""
        with self._turn:
            return self._read(now)

    def _read(self, now: float) -> Selection:
        version = self._trust.root.version
        looked_at = self._look(now)
        if self._trust.root.version != version:
            looked_at = self._look(now)  # one file's newer root may unmask another
        found = [each for each in looked_at if isinstance(each, Installed)]
        passed = [each for each in looked_at if isinstance(each, PassedOver)]
        altered = [each.path for each in found if each.is_copy]
        altered += [each.path for each in passed if each.code in ALTERED]
        unremembered = self._remember(found, now)
        choice = select(_without_twins(found, passed), now)
        return replace(
            choice,
            passed_over=(*passed, *choice.passed_over),
            altered=tuple(altered),
            is_tampered=not choice.chosen and any(map(self._was_known, altered)),
            unremembered=unremembered,
        )

    def _look(self, now: float) -> list[Installed | PassedOver]:
        paths = self._paths()
        looked_at = [self._look_at(path, now) for path in paths[:MAX_FILES]]
        return looked_at + [
            PassedOver(path, "too_many", f"only {MAX_FILES} files are looked at: remove some")
            for path in paths[MAX_FILES:]
        ]

    def _paths(self) -> list[Path]:
        try:
            return sorted(self._dir.glob("*.lic"))
        except OSError:
            return []

    def _look_at(self, path: Path, now: float) -> Installed | PassedOver:
        try:
            return self._admit(path, self._read_file(path), now)
        except LicenseError as error:
            if error.code in ALTERED:
                copy = self._from_copy(path, now)
                if copy is not None:
                    return copy
            return PassedOver(path, error.code, str(error))
        except OSError as error:
            return PassedOver(path, "unreadable", f"it cannot be read: {error.strerror}")

    def _read_file(self, path: Path) -> bytes:
        if not path.is_file():  # a pipe would be waited for
            raise LicenseError("unreadable", "it is not a file")
        return read_bounded(path, MAX_FILE_BYTES)

    def _from_copy(self, path: Path, now: float) -> Installed | None:
        try:
            data = read_private(self._copies / path.name, MAX_FILE_BYTES)
            return replace(self._admit(path, data, now), is_copy=True)
        except (LicenseError, OSError):
            return None

    def _admit(self, path: Path, data: bytes, now: float) -> Installed:
        """Verify a file's bytes and weigh them against what is remembered. Raises LicenseError."""
        envelope = parse_armour(data)
        found, opened = self._trust.open_license(envelope)
        self._trust = self._trust.advance(envelope.roots)
        highest = self._memory.highest(found.license_id, self._trust.is_compromised)
        if found.revision < highest:
            raise LicenseError(
                "older_revision",
                f"this is revision {found.revision} of {found.license_id}, and revision {highest} has been"
                " in force here: ask the vendor for the newest file",
            )
        return Installed(
            path,
            found,
            envelope,
            opened,
            self._memory.first_seen.get(found.license_id, now),
            self._revocation_of(found.license_id),
        )

    def _was_known(self, path: Path) -> bool:
        """Whether this file was once good: its copy is gone, but its name says whose it was."""
        return path.stem.partition("-")[0] in self._memory.first_seen

    # -- putting something there ----------------------------------------------------------------------

    def install(self, data: bytes, now: float, *, replace_others: bool = False) -> Installed:
        """Verify a licence file, then put it in its place, synced. Raises LicenseError, OSError; nothing has changed then.

        `replace_others`: what cannot stand beside it goes (into `good/`, never lost).
        """
        if len(data) > MAX_FILE_BYTES:
            raise LicenseError("too_large", f"a licence file has at most {MAX_FILE_BYTES} bytes")
        with self._turn:
            return self._install(data, now, replace_others)

    def _install(self, data: bytes, now: float, replace_others: bool) -> Installed:
        envelope = parse_armour(data)
        found, _ = self._trust.open_license(envelope)
        self.adopt_roots(envelope.roots)  # they are the vendor's, whatever becomes of the licence
        before = self.read(now)
        path = self._dir / file_name(found)
        new = self._admit(path, data, now)
        _refuse_ended(new, now)
        others = _not_beside(new, before, now)
        if others and not replace_others:
            raise _mixed(new, others)
        outgoing = [each.path for each in others] + self._outdone_by(new, before, now)
        self._refuse_too_many(new, outgoing)
        good = format_armour(new.envelope).encode()
        self._keep_copy(path.name, good)
        self._dir.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_atomically(path, good)
        self._take_away(outgoing, path)
        self._remember([new], now)
        return new

    def adopt_roots(self, roots: tuple[Envelope, ...]) -> bool:
        """Believe newer roots from now on, and after a restart. Raises LicenseError, OSError. Whether there were any."""
        with self._turn:
            self._trust = self._trust.advance(roots)
            return self._keep_roots()

    def install_roots(self, data: bytes) -> bool:
        """Believe newer roots from the file `sluice-license root export` writes. As `adopt_roots`."""
        return self.adopt_roots(read_chain(data))

    def keep_revocations(self, envelope: Envelope) -> bool:
        """Take a newer list of revocations. Raises LicenseError for one that is older or not signed. Whether it was newer."""
        with self._turn:
            return self._keep_revocations(envelope)

    def _keep_revocations(self, envelope: Envelope) -> bool:
        opened = self._trust.open(envelope, REVOCATIONS)
        listed = decode_closed(opened.payload, Revocations)
        if listed.number < self.revocations_number:
            raise LicenseError(
                "older_list",
                f"this list of revocations has number {listed.number}, and {self.revocations_number} is known",
            )
        if listed.number == self.revocations_number:
            return False
        make_private_folder(self._state)
        write_atomically(self._state / "revocations.json", encode_envelope(envelope))
        self._revocations = listed
        return True

    # -- inside ---------------------------------------------------------------------------------------

    def _load(self, name: str, max_bytes: int, recall: Callable[[bytes], None]) -> None:
        """One file of the memory. A damaged one is as a missing one, and said: it must not stop the mail (A37)."""
        try:
            recall(read_private(self._state / name, max_bytes))
        except FileNotFoundError:
            return
        except LicenseError as error:
            if error.code == "permissions":
                raise
            self.troubles += (f"{self._state / name} is not used: {error}",)

    def _recall_roots(self, data: bytes) -> None:
        self._trust = self._trust.advance(read_chain(data))
        self._kept_root = self._trust.root.version

    def _keep_roots(self) -> bool:
        version = self._trust.root.version
        if version == self._kept_root:
            return False
        make_private_folder(self._state)
        write_atomically(self._state / "roots.json", self._trust.dump())
        self._kept_root = version
        return True

    def _recall_memory(self, data: bytes) -> None:
        self._memory = self._kept_memory = decode_closed(data, Memory)

    def _recall_revocations(self, data: bytes) -> None:
        opened = self._trust.open(decode_envelope(data), REVOCATIONS)
        self._revocations = decode_closed(opened.payload, Revocations)

    def _revocation_of(self, license_id: str) -> Revocation | None:
        listed = self._revocations.revoked if self._revocations else ()
        return next((each for each in listed if each.license_id == license_id), None)

    def _remember(self, found: list[Installed], now: float) -> str:
        """Keep copies and ratchets of what is good. A disk that is full stops nothing: why not, or ""."""
        for each in found:
            name, revision = each.license_id, each.license.revision
            self._memory = self._memory.with_seen(name, now)
            if each.has_begun(now):
                self._memory = self._memory.with_begun(each.opened.key_id, name, revision)
        try:
            self._keep_roots()
            for each in found:
                self._keep_copy(each.path.name, format_armour(each.envelope).encode())
            self._keep_memory()
        except OSError as error:
            return f"{self._state} cannot be written: {error.strerror}"
        except LicenseError as error:
            return str(error)
        return ""

    def _keep_memory(self) -> None:
        memory = self._memory
        if memory != self._kept_memory:
            memory.refuse_unbounded()
            make_private_folder(self._state)
            write_atomically(self._state / "store.json", msgspec.json.encode(memory))
            self._kept_memory = memory

    def _keep_copy(self, name: str, data: bytes) -> None:
        copy = self._copies / name
        if copy.exists() and copy.read_bytes() == data:
            return
        make_private_folder(self._copies)
        write_atomically(copy, data)
        _forget_oldest(self._copies, self._dir)

    def _outdone_by(self, new: Installed, before: Selection, now: float) -> list[Path]:
        """Files of this licence that can never be in force again; what still is stays beside a staged renewal."""
        if not new.has_begun(now):
            return []
        return [
            each.path
            for each in (*before.chosen, *before.staged)
            if each.license_id == new.license_id and each.license.revision < new.license.revision
        ]

    def _refuse_too_many(self, new: Installed, outgoing: list[Path]) -> None:
        left = set(self._paths()) - set(outgoing) | {new.path}
        if len(left) > MAX_FILES:
            raise LicenseError(
                "too_many", f"{self._dir} holds {MAX_FILES} licence files already: remove some"
            )

    def _take_away(self, paths: list[Path], new: Path) -> None:
        for path in paths:
            if path != new:
                path.unlink(missing_ok=True)
        if paths:
            sync_folder(self._dir)


def file_name(found: License) -> str:
    """Where a licence lies: each revision in a file of its own, so that a renewal can wait beside the present one."""
    return f"{found.license_id}-r{found.revision}.lic"


def _without_twins(found: list[Installed], passed: list[PassedOver]) -> list[Installed]:
    """Each signed statement once, however many files hold it: seats are not multiplied by copying."""
    first: dict[str, Installed] = {}
    for each in found:
        known = first.setdefault(each.opened.sha256, each)
        if known is not each:
            passed.append(
                PassedOver(each.path, "twin", f"it is the same licence as {known.path.name}")
            )
    return list(first.values())


def _refuse_ended(new: Installed, now: float) -> None:
    if new.has_ended(now):
        revoked = new.revocation is not None
        code, why = ("revoked", "revoked") if revoked else ("ended", "past its term and its grace")
        raise LicenseError(code, f"{new.license_id} is {why}: ask the vendor for a new one")


def _not_beside(new: Installed, before: Selection, now: float) -> list[Installed]:
    """What is in force or waits, and cannot stand on one node with the new one."""
    return [
        each
        for each in (*before.chosen, *before.staged)
        if each.license_id not in (new.license_id, *new.license.supersedes)
        and each.group is not GROUP_OF[new.license.kind]
        and not each.has_ended(now)
    ]


def _mixed(new: Installed, others: list[Installed]) -> LicenseError:
    names = ", ".join(f"{each.license.kind} {each.license_id}" for each in others)
    return LicenseError(
        "mixed",
        f"a {new.license.kind} licence does not stand beside {names} on one node:"
        " install it with --replace to put it in the place of what is there",
    )


def _forget_oldest(copies: Path, in_use: Path) -> None:
    """Keep the bound: the oldest copies of files that are no longer installed go first."""
    held = sorted(copies.glob("*.lic"), key=lambda path: path.stat().st_mtime)
    spare = [path for path in held if not (in_use / path.name).exists()]
    for path in spare[: max(0, len(held) - MAX_COPIES)]:
        path.unlink(missing_ok=True)
