"""`sluice dkim generate` and `sluice dkim check`, as an operator uses them."""

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from mta.cli.dkim import MAX_SIGNATURES, app
from mta.dkim.keys import bind_record, dns_record, generate, load_key, record_name
from mta.dkim.signer import Signer, sign_message

HEADER = b"From: a@shop.example\r\nTo: b@example.net\r\nSubject: hello\r\n"
BODY = b"Hello\r\n"
PAST = 1_700_000_000.0


def sluice_dkim(*args: object, given: bytes | None = None) -> Result:
    return CliRunner().invoke(app, [str(arg) for arg in args], input=given)


class Signed:
    """A message with an RSA and an Ed25519 signature, its keys and its records, as files."""

    def __init__(self, folder: Path) -> None:
        pems = {name: generate(name) for name in ("rsa", "ed25519")}
        loaded = {name: load_key(pem) for name, pem in pems.items()}
        self.signers = [Signer("shop.example", name, key) for name, key in loaded.items()]
        self.keys = []
        for name, pem in pems.items():
            self.keys.append(folder / f"{name}.pem")
            self.keys[-1].write_bytes(pem)
        self.records = folder / "records.zone"
        self.records.write_text(
            "; published on Monday\n"
            + "\n".join(
                bind_record(record_name("shop.example", name), dns_record(key))
                for name, key in loaded.items()
            )
        )
        self.content = sign_message(self.signers, HEADER, BODY, PAST) + HEADER + b"\r\n" + BODY
        self.folder = folder

    def as_file(self, content: bytes | None = None) -> Path:
        file = self.folder / "message.eml"
        file.write_bytes(self.content if content is None else content)
        return file


@pytest.fixture
def signed(tmp_path: Path) -> Signed:
    return Signed(tmp_path)


def test_a_generated_key_loads_and_only_its_owner_reads_it(tmp_path: Path) -> None:
    file = tmp_path / "s1.pem"
    result = sluice_dkim("generate", "Shop.example", "s1", "--out", file)
    assert result.exit_code == 0
    assert file.stat().st_mode & 0o777 == 0o600
    key = load_key(file.read_bytes())
    assert "s1._domainkey.shop.example. IN TXT (" in result.output
    assert dns_record(key) in result.output
    assert f'key_file = "{file}"' in result.output


def test_the_printed_zone_lines_hold_strings_of_at_most_255_bytes(tmp_path: Path) -> None:
    result = sluice_dkim("generate", "shop.example", "s1", "--out", tmp_path / "k", "--bits", 4096)
    strings = [line.strip(' "') for line in result.output.splitlines() if line.startswith('    "')]
    assert len(strings) == 3
    assert max(map(len, strings)) == 255
    assert "".join(strings) == dns_record(load_key((tmp_path / "k").read_bytes()))


def test_a_generated_key_can_be_had_as_json(tmp_path: Path) -> None:
    result = sluice_dkim(
        "generate",
        "shop.example",
        "e1",
        "--out",
        tmp_path / "k",
        "--algorithm",
        "ed25519",
        "--json",
    )
    told = json.loads(result.output)
    key = load_key((tmp_path / "k").read_bytes())
    assert told == {
        "key_file": str(tmp_path / "k"),
        "name": "e1._domainkey.shop.example",
        "type": "TXT",
        "text": dns_record(key),
        "zone": f'e1._domainkey.shop.example. IN TXT "{dns_record(key)}"',
    }


def test_without_a_file_name_the_key_is_named_after_selector_and_domain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert sluice_dkim("generate", "shop.example", "s1").exit_code == 0
    assert (tmp_path / "s1.shop.example.pem").exists()


def test_a_key_is_never_overwritten(tmp_path: Path) -> None:
    file = tmp_path / "s1.pem"
    file.write_text("precious")
    result = sluice_dkim("generate", "shop.example", "s1", "--out", file)
    assert result.exit_code == 1
    assert "exists already" in result.output
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("shop", "s1"), "no domain"),
        (("shop.example", "s 1"), "selector"),
        (("shop.example", "../../s1"), "selector"),
        (("shop.example", "s1", "--bits", "512"), "1024 to 4096"),
    ],
)
def test_what_cannot_be_used_is_not_generated(
    args: tuple[str, ...], words: str, tmp_path: Path
) -> None:
    result = sluice_dkim("generate", *args, "--out", tmp_path / "k")
    assert result.exit_code == 1
    assert words in result.output
    assert not (tmp_path / "k").exists()


def test_a_key_that_cannot_be_written_is_said_so(tmp_path: Path) -> None:
    result = sluice_dkim("generate", "shop.example", "s1", "--out", tmp_path / "none" / "k")
    assert result.exit_code == 1
    assert "cannot be written" in result.output


def test_both_signatures_pass_with_records_in_zone_form(signed: Signed) -> None:
    result = sluice_dkim("check", signed.as_file(), "--dns-record", signed.records)
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "pass  d=shop.example s=rsa a=rsa-sha256",
        "pass  d=shop.example s=ed25519 a=ed25519-sha256",
    ]


def test_both_signatures_pass_with_the_private_keys_at_hand(signed: Signed) -> None:
    options = [part for key in signed.keys for part in ("--key", key)]
    assert sluice_dkim("check", signed.as_file(), *options).exit_code == 0


def test_a_message_with_unix_line_ends_from_standard_input_passes(signed: Signed) -> None:
    unix = signed.content.replace(b"\r\n", b"\n")
    result = sluice_dkim("check", "-", "--dns-record", signed.records, given=unix)
    assert result.exit_code == 0


def test_a_single_record_text_answers_for_every_name(signed: Signed) -> None:
    record = signed.folder / "one.txt"
    record.write_text(dns_record(load_key(signed.keys[0].read_bytes())) + "\n")
    content = sign_message(signed.signers[:1], HEADER, BODY, PAST) + HEADER + b"\r\n" + BODY
    assert sluice_dkim("check", signed.as_file(content), "--dns-record", record).exit_code == 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ((b"Hello", b"Hallo"), "body hash mismatch"),
        ((b"Subject: hello", b"Subject: hallo"), "a signed header field was changed"),
        ((b"s=rsa", b"s=old"), "no key for rsa-sha256 at old._domainkey.shop.example"),
        ((b"a=rsa-sha256", b"a=rsa-sha9"), "unknown signature algorithm"),
        ((b" bh=", b" no="), "missing bh="),
    ],
)
def test_a_failure_says_why_and_exits_1(
    change: tuple[bytes, bytes], reason: str, signed: Signed
) -> None:
    file = signed.as_file(signed.content.replace(*change))
    result = sluice_dkim("check", file, "--dns-record", signed.records)
    assert result.exit_code == 1
    assert result.output.startswith("FAIL")
    assert reason in result.output


def test_one_failing_signature_fails_the_message_and_json_tells_which(signed: Signed) -> None:
    result = sluice_dkim("check", signed.as_file(), "--key", signed.keys[1], "--json")
    told: dict[str, Any] = json.loads(result.output)
    assert result.exit_code == 1
    assert told["passed"] is False
    assert [found["passed"] for found in told["signatures"]] == [False, True]


def test_a_message_without_signature_does_not_pass(signed: Signed) -> None:
    file = signed.as_file(HEADER + b"\r\n" + BODY)
    result = sluice_dkim("check", file, "--dns-record", signed.records)
    assert result.exit_code == 1
    assert "no DKIM-Signature" in result.output


def test_a_limited_body_length_is_remarked(signed: Signed) -> None:
    content = b"DKIM-Signature: v=1; a=rsa-sha256; d=shop.example; s=rsa; h=from; l=3; bh=aa==; b=aa==\r\n"
    file = signed.as_file(content + HEADER + b"\r\n" + BODY)
    assert "anyone may append" in sluice_dkim("check", file, "--key", signed.keys[0]).output


def test_signatures_beyond_the_tenth_are_not_tried_and_not_passed(signed: Signed) -> None:
    one = sign_message(signed.signers[1:], HEADER, BODY, PAST)
    file = signed.as_file(one * (MAX_SIGNATURES + 1) + HEADER + b"\r\n" + BODY)
    lines = sluice_dkim("check", file, "--key", signed.keys[1]).output.splitlines()
    assert [line[:4] for line in lines] == ["pass"] * MAX_SIGNATURES + ["FAIL"]
    assert "not tried" in lines[-1]


@pytest.mark.parametrize(
    "record",
    [
        "v=DKIM1; k=rsa; p=",
        "v=DKIM1; k=rsa; p=AAAA",
        "v=DKIM1; k=rsa; p=!!!",
        "v=DKIM1; k=ed25519; p=AAAA",
        "v=DKIM1; k=none; p=AAAA",
        "v=DKIM2; p=AAAA",
        "p=" + "A" * 100_000,
        "k=\xff",
    ],
)
def test_no_odd_key_record_brings_the_check_down(record: str, signed: Signed) -> None:
    file = signed.folder / "odd.txt"
    file.write_text(record, encoding="latin-1")
    result = sluice_dkim("check", signed.as_file(), "--dns-record", file, "--json")
    assert result.exit_code == 1
    assert json.loads(result.output)["passed"] is False


@pytest.mark.parametrize(
    "field",
    [
        b"DKIM-Signature:\r\n",
        b"DKIM-Signature: \xff\xfe\r\n",
        b"DKIM-Signature: v=1; v=1\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; d=\x1b[31m; s=a; h=from; bh=a; b=a\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; d=a; s=a; h=; bh====; b====\r\n",
        b"DKIM-Signature: v=1; a=rsa-sha256; d=a; s=a; h=from; t=x; bh=aaaa; b=aaaa\r\n",
    ],
)
def test_no_odd_signature_brings_the_check_down_or_reaches_the_terminal(
    field: bytes, signed: Signed
) -> None:
    result = sluice_dkim("check", signed.as_file(field + HEADER + b"\r\n"), "--key", signed.keys[0])
    assert result.exit_code == 1
    assert result.output.startswith("FAIL")
    assert "\x1b" not in result.output


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["check", "none.eml"], "cannot be read"),
        (["check", "message.eml", "--key", "message.eml"], "no private key"),
        (["check", "message.eml", "--dns-record", "message.eml"], "zone form"),
        (["check", "records.zone", "--key", "rsa.pem"], "no message"),
    ],
)
def test_a_wrong_file_is_named_for_what_it_is(
    args: list[str], words: str, signed: Signed, monkeypatch: pytest.MonkeyPatch
) -> None:
    signed.as_file()
    monkeypatch.chdir(signed.folder)
    result = sluice_dkim(*args)
    assert result.exit_code == 1
    assert words in result.output
