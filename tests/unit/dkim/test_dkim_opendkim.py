"""OpenDKIM, which shares no code with us or dkimpy, judges the same messages.

The filter's own test mode, not `opendkim-testmsg`: that one takes keys from the system's DNS only, and
signs with rsa-sha1.
"""

import shutil
import subprocess
from pathlib import Path

import pytest

from mta.dkim.keys import DkimKey, dns_record, generate, load_key, record_name
from mta.dkim.signer import Signer, sign_message

OPENDKIM = shutil.which("opendkim", path="/usr/sbin:/usr/bin")
HEADER = (
    b"From: Shop <news@shop.example>\r\nTo: you@example.net\r\n"
    b"Subject: Offers\tof  the\r\n week \r\nDate: Mon, 23 Nov 2026 07:41:00 +0000\r\n"
    b"Message-ID: <1@shop.example>\r\n"
)
BODIES = {
    "plain": b"Hello\r\n",
    "empty": b"",
    "blank lines": b"a\r\n\r\n\r\n",
    "blanks": b"\ta  b \r\n \r\n\r\nc\t\r\n \r\n",
    "8-bit": b"gr\xc3\xbcn \xff\r\n",
}
CANONS = [(a, b) for a in ("relaxed", "simple") for b in ("relaxed", "simple")]


@pytest.fixture(scope="module")
def keys() -> dict[str, DkimKey]:
    return {name: load_key(generate(name)) for name in ("rsa", "ed25519")}


needs_opendkim = pytest.mark.skipif(OPENDKIM is None, reason="opendkim is not installed")


def judge(messages: list[bytes], keys: dict[str, DkimKey], folder: Path) -> str:
    """What OpenDKIM says of the messages, as the Authentication-Results it would add."""
    records = folder / "records"
    records.write_text(
        "".join(f"{record_name('shop.example', n)} {dns_record(k)}\n" for n, k in keys.items())
    )
    conf = folder / "conf"
    conf.write_text(f"Mode v\nSyslog no\nTestPublicKeys {records}\n")
    files = []
    for number, message in enumerate(messages):
        file = folder / f"{number}.eml"
        file.write_bytes(message)
        files.append(str(file))
    assert OPENDKIM is not None
    run = subprocess.run(
        [OPENDKIM, "-x", str(conf), "-vv", "-t", ",".join(files)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return run.stdout


def signed(body: bytes, canon: tuple[str, str], keys: dict[str, DkimKey]) -> bytes:
    signers = [Signer("shop.example", name, key, canon=canon) for name, key in keys.items()]
    return sign_message(signers, HEADER, body, 1_700_000_000) + HEADER + b"\r\n" + body


@needs_opendkim
@pytest.mark.parametrize("canon", CANONS)
def test_opendkim_passes_both_signatures_of_awkward_messages(
    canon: tuple[str, str], keys: dict[str, DkimKey], tmp_path: Path
) -> None:
    said = judge([signed(body, canon, keys) for body in BODIES.values()], keys, tmp_path)
    assert said.count("dkim=pass") == 2 * len(BODIES), said


@needs_opendkim
def test_opendkim_passes_nothing_that_was_changed(keys: dict[str, DkimKey], tmp_path: Path) -> None:
    message = signed(b"Hello\r\n", ("relaxed", "relaxed"), keys)
    changed = [message + b"more\r\n", message.replace(b"Offers", b"Orders")]
    assert "dkim=pass" not in judge(changed, keys, tmp_path)
    assert judge([message], keys, tmp_path).count("dkim=pass") == 2
