"""`sluice dkim`: make a key with its DNS record, and check the signatures of a message.

Keys are written once, readable by their owner only, and never overwritten: the record of a lost key
stays in DNS and no signature fits it. Checking is dkimpy's work, not ours: our signer does not
judge itself. RFC 6376 §3.6, §6.
"""

import json
import logging
import os
import re
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, NoReturn

import dkim as dkimpy
import dns.exception
import dns.rdatatype
import dns.zonefile
import typer
from dkim.dnsplug import get_txt
from dkim.util import InvalidTagValueList, parse_tag_value

from mta.dkim.keys import DEFAULT_RSA_BITS, bind_record, dns_record, load_key, record_name
from mta.dkim.keys import generate as generate_key
from mta.dkim.signer import Signer

MAX_SIGNATURES = (
    10  # RFC 6376 §8.4: each one checked costs a DNS look-up and a public-key operation
)
DNS_TIMEOUT_S = 5
_BYTES_REPR = re.compile(r"\bb'([^']*)'")
# dkimpy has no types.
_verifier: Any = dkimpy.DKIM
_parse_tags: Any = parse_tag_value
_get_txt: Any = get_txt
# What a signature's name and algorithm are answered with: its TXT record, or None where there is
# none.
Lookup = Callable[[str, str], bytes | None]

app = typer.Typer(no_args_is_help=True, help="DKIM: make keys, check signatures.")


class Algorithm(StrEnum):
    """What a key can be of."""

    RSA = "rsa"
    ED25519 = "ed25519"


@dataclass(frozen=True, slots=True)
class SignatureCheck:
    """What became of one signature; `reason` says why it failed, `note` what is odd about it."""

    domain: str
    selector: str
    algorithm: str
    passed: bool
    reason: str = ""
    note: str = ""


@app.command()
def generate(
    domain: Annotated[str, typer.Argument(help="The domain to sign for: example.com")],
    selector: Annotated[str, typer.Argument(help="The key's name under that domain: s1")],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="The file to write; SELECTOR.DOMAIN.pem")
    ] = None,
    algorithm: Annotated[
        Algorithm, typer.Option(help="rsa is verified everywhere; ed25519 as a second signature")
    ] = Algorithm.RSA,
    bits: Annotated[int, typer.Option(help="Length of an RSA key")] = DEFAULT_RSA_BITS,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object")] = False,
) -> None:
    """Write a new private key and print the DNS record to publish for it."""
    try:
        pem = generate_key(algorithm.value, bits)
        key = load_key(pem)
        domain = Signer(domain, selector, key).domain
    except ValueError as error:
        _fail(str(error))
    path = (out or Path(f"{selector}.{domain}.pem")).absolute()
    try:
        _write_once(path, pem)
    except FileExistsError:
        _fail(f"{path} exists already; a key is never overwritten: name another file with --out")
    except OSError as error:
        _fail(f"{path} cannot be written: {error.strerror}")
    name, text = record_name(domain, selector), dns_record(key)
    zone = bind_record(name, text)
    if as_json:
        _print_json(
            {"key_file": str(path), "name": name, "type": "TXT", "text": text, "zone": zone}
        )
        return
    typer.echo(
        f"Private key: {path} (mode 0600)\n\n"
        f"For a zone file:\n\n{zone}\n\n"
        f"The same for a web form:\n\n  name   {name}\n  type   TXT\n  value  {text}\n\n"
        "For the configuration, once the record can be looked up:\n\n"
        f'[[dkim]]\ndomain = "{domain}"\nselector = "{selector}"\nkey_file = "{path}"'
    )


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A message as a file; - for standard input")],
    record_file: Annotated[
        Path | None,
        typer.Option("--dns-record", help="TXT records in zone form, or one text, instead of DNS"),
    ] = None,
    key_files: Annotated[
        list[Path] | None,
        typer.Option("--key", help="A private key (PEM) whose record is used instead of DNS"),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object")] = False,
) -> None:
    """Verify each DKIM signature of a message; exit 1 if one fails or there is none."""
    message = sys.stdin.buffer.read() if str(file) == "-" else _read(file)
    try:
        if record_file is not None:
            lookup = lookup_in_records(_read(record_file).decode("utf-8", "replace"))
        elif key_files:
            lookup = lookup_in_keys(_read(path) for path in key_files)
        else:
            lookup = lookup_in_dns
        checks = check_signatures(message, lookup)
    except ValueError as error:
        _fail(str(error))
    passed = bool(checks) and all(found.passed for found in checks)
    if as_json:
        _print_json({"passed": passed, "signatures": [asdict(found) for found in checks]})
    elif not checks:
        typer.echo("no DKIM-Signature field")
    else:
        for found in checks:
            typer.echo(_line(found))
    if not passed:
        raise typer.Exit(1)


def check_signatures(message: bytes, lookup: Lookup) -> list[SignatureCheck]:
    """Check each signature, topmost first. Raises ValueError if this is no message."""
    try:
        verifier = _verifier(message)
    except dkimpy.DKIMException as error:
        raise ValueError(f"this is no message: {error}") from error
    fields = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    return [_check(message, number, value, lookup) for number, value in enumerate(fields)]


def _check(message: bytes, number: int, value: bytes, lookup: Lookup) -> SignatureCheck:
    try:
        tags = {tag.decode(): text.decode("utf-8") for tag, text in _parse_tags(value).items()}
    except (InvalidTagValueList, UnicodeDecodeError):
        return SignatureCheck("", "", "", False, "its tags cannot be read")
    named = tags.get("d", ""), tags.get("s", ""), tags.get("a", "")
    if number >= MAX_SIGNATURES:
        return SignatureCheck(*named, False, f"not tried: only the first {MAX_SIGNATURES} are")
    note = ""
    if "l" in tags:
        note = f"l= covers {tags['l']} bytes only: anyone may append to the body"

    def record(name: bytes, timeout: float = DNS_TIMEOUT_S) -> bytes | None:
        place = name.decode("utf-8", "replace").rstrip(".")
        found = lookup(place, named[2])
        if not found:
            said.texts.append(f"no key for {named[2]} at {place}")
        return found

    said = _Said()
    verifier = _verifier(message, logger=said.logger, timeout=DNS_TIMEOUT_S)
    try:
        passed = bool(verifier.verify(number, dnsfunc=record))
    except (dkimpy.DKIMException, ValueError, LookupError, TypeError) as error:
        # Not only its own exceptions: an odd key or signature makes dkimpy raise these too.
        return SignatureCheck(*named, False, _plain(str(error) or repr(error)), note)
    if passed:
        return SignatureCheck(*named, True, "", note)
    unfit = "a signed header field was changed, or the key is another"
    return SignatureCheck(*named, False, _plain(next(iter(said.texts), unfit)), note)


def _plain(text: str) -> str:
    """dkimpy's words without the b'…' it puts around bytes."""
    return _BYTES_REPR.sub(r"\1", text)


class _Said(logging.Handler):
    """Hears what dkimpy logs, which is where it says why a key was of no use."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.texts: list[str] = []
        # Not getLogger: this one is known to nobody else and goes with the check.
        self.logger = logging.Logger("dkimpy", logging.ERROR)
        self.logger.addHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        self.texts.append(record.getMessage())


def lookup_in_dns(name: str, algorithm: str) -> bytes | None:
    """The record as the system's resolver finds it."""
    found: bytes | None = _get_txt(name.encode(), timeout=DNS_TIMEOUT_S)
    return found


def lookup_in_records(text: str) -> Lookup:
    """Records of a zone file; or one record's text, which then answers for every name. Raises
    ValueError.
    """
    if text.lstrip().startswith(("v=", "k=", "p=")):
        plain = text.strip().encode()
        return lambda name, algorithm: plain
    try:
        sets = dns.zonefile.read_rrsets(text, default_ttl=0, rdclass=None)
    except (dns.exception.DNSException, ValueError) as error:
        raise ValueError(f"no DNS records in zone form: {error}") from error
    records = {
        found.name.to_text(omit_final_dot=True).lower(): b"".join(next(iter(found)).strings)
        for found in sets
        if found.rdtype == dns.rdatatype.TXT
    }
    return lambda name, algorithm: records.get(name.lower())


def lookup_in_keys(pems: Iterable[bytes]) -> Lookup:
    """The record of the first key that has the signature's algorithm. Raises ValueError."""
    records: dict[str, bytes] = {}
    for pem in pems:
        key = load_key(pem)
        records.setdefault(key.algorithm, dns_record(key).encode())
    return lambda name, algorithm: records.get(algorithm)


def _line(found: SignatureCheck) -> str:
    parts = [
        "pass" if found.passed else "FAIL",
        f"d={_shown(found.domain)} s={_shown(found.selector)} a={_shown(found.algorithm)}",
    ]
    if found.reason:
        parts.append(_shown(found.reason))
    if found.note:
        parts.append(f"({_shown(found.note)})")
    return "  ".join(parts)


def _shown(text: str) -> str:
    """A stranger's text as the terminal may have it."""
    return "".join(char if char.isprintable() else "?" for char in text)


def _write_once(path: Path, content: bytes) -> None:
    """Create the file, mode 0600, and have it and its directory entry on disk. Raises
    FileExistsError.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        _fail(f"{path} cannot be read: {error.strerror}")


def _print_json(value: Any) -> None:
    typer.echo(json.dumps(value, indent=2))


def _fail(text: str) -> NoReturn:
    typer.echo(text, err=True)
    raise typer.Exit(1)
