"""Commands: what is taken, what is refused, and with which reply (reliability S9, S13)."""

import base64

import pytest

from mta.model.errors import AddressError
from mta.smtp.grammar import (
    Auth,
    AuthRequest,
    Bdat,
    Courtesy,
    Data,
    Hello,
    MailFrom,
    RcptTo,
    StartTls,
    parse_command,
    parse_mailbox,
    parse_plain,
)
from mta.smtp.replies import Refused


def refusal(line: bytes) -> str:
    """Code and enhanced status of the refusal that `line` earns."""
    with pytest.raises(Refused) as refused:
        parse_command(line)
    reply = refused.value.reply
    return f"{reply.code} {reply.enhanced}"


@pytest.mark.parametrize(
    ("line", "command"),
    [
        (b"MAIL FROM:<a@Example.COM>", MailFrom("a@Example.COM", "example.com")),
        (b"mail from:<a@b.example>", MailFrom("a@b.example", "b.example")),
        (b"MAIL FROM: <a@b.example>  ", MailFrom("a@b.example", "b.example")),
        (b"MAIL FROM:<>", MailFrom("", "")),
        (b"MAIL FROM:<> SIZE=10", MailFrom("", "", size=10)),
        (
            b"MAIL FROM:<a@b.example> size=4096 BODY=8bitmime RET=hdrs ENVID=x+2By AUTH=<>",
            MailFrom("a@b.example", "b.example", 4096, "8BITMIME", "HDRS", "x+2By", "<>"),
        ),
        (b"RCPT TO:<a..b.@b.example>", RcptTo("a..b.@b.example", "b.example")),
        (b"RCPT TO:<a+tag=x@xn--bcher-kva.example>", RcptTo("a+tag=x@xn--bcher-kva.example", "xn--bcher-kva.example")),
        (b"RCPT TO:<a@_x.foo_bar.example>", RcptTo("a@_x.foo_bar.example", "_x.foo_bar.example")),
        (b'RCPT TO:<"a b>@c"@d.example>', RcptTo('"a b>@c"@d.example', "d.example")),
        (b'RCPT TO:<"a\\"b"@d.example>', RcptTo('"a\\"b"@d.example', "d.example")),
        (b"RCPT TO:<user%ext@us.example>", RcptTo("user%ext@us.example", "us.example")),
        (b"RCPT TO:<ext!user@us.example>", RcptTo("ext!user@us.example", "us.example")),
        (b"RCPT TO:<a@[192.0.2.1]>", RcptTo("a@[192.0.2.1]", "[192.0.2.1]")),
        (b"RCPT TO:<a@[IPv6:2001:DB8::1]>", RcptTo("a@[IPv6:2001:DB8::1]", "[ipv6:2001:db8::1]")),
        (b"RCPT TO:<PostMaster>", RcptTo("PostMaster", "")),
        (b"RCPT TO:<a@b.c> NOTIFY=success,DELAY ORCPT=rfc822;a+40b", RcptTo("a@b.c", "b.c", "SUCCESS,DELAY", "rfc822;a+40b")),
        (b"RCPT TO:<a@b.c> NOTIFY=NEVER", RcptTo("a@b.c", "b.c", "NEVER")),
        (b"EHLO mail.example.com", Hello("mail.example.com", True)),
        (b"helo [192.0.2.1]", Hello("[192.0.2.1]", False)),
        (b"EHLO my_pc ", Hello("my_pc", True)),
        (b"DATA", Data()),
        (b"data \t", Data()),
        (b"BDAT 9", Bdat(9, is_last=False)),
        (b"bdat  0 last ", Bdat(0, is_last=True)),
        (b"StartTLS", StartTls()),
        (b"AUTH plain", AuthRequest("PLAIN", None)),
        (b"AUTH PLAIN AGEAYg==", AuthRequest("PLAIN", "AGEAYg==")),
    ],
)  # fmt: skip
def test_a_command_is_read(line: bytes, command: object) -> None:
    assert parse_command(line) == command


def test_the_longest_address_is_taken_and_a_longer_one_is_not() -> None:
    local, domain = "l" * 64, ".".join(["d" * 63] * 4)
    assert len(domain) == 255
    assert parse_mailbox(f"{local}@{domain}") == (local, domain)
    for long in (f"l{local}@{domain}", f"{local}@{domain}.d", f"a@{'d' * 64}.example"):
        with pytest.raises(AddressError):
            parse_mailbox(long)
        assert refusal(f"RCPT TO:<{long}>".encode()) == "501 5.1.3"


@pytest.mark.parametrize(
    "path",
    [
        b"<@relay.example:a@b.example>",
        b"<@relay.example,@b:u@d.example>",
        b"<@a.example>",
        b"<a@>",
        b"<@>",
        b"<a>",
        b"<a@b.example.>",
        b"<a@.b.example>",
        b"<a@b..example>",
        b"<a@-b.example>",
        b"<a@b-.example>",
        b"<a@b@c.example>",
        b"<a b@c.example>",
        b"<a@[127.0.0.256]>",
        b"<a@[::ffff:127.0.0.1]>",
        b"<a@[IPv6:127.0.0.1]>",
        b"<a@[]>",
        b"<a@[x]>",
        b"<a@b.example",
        b"a@b.example>",
        b"a@b.example",
        b"<<a@b.example>>",
        b'<"a@b.example>',
        b'<"a"b@c.example>',
        b"<a@b.example>x",
        b"<a@b.example><c@d.example>",
        b"",
    ],
)
def test_a_bad_path_is_refused(path: bytes) -> None:
    assert refusal(b"RCPT TO:" + path) == "501 5.1.3"
    assert refusal(b"MAIL FROM:" + path) == "501 5.1.7"


def test_nobody_is_the_null_recipient() -> None:
    assert refusal(b"RCPT TO:<>") == "501 5.1.3"


@pytest.mark.parametrize(
    ("parameter", "answer"),
    [
        (b"SIZE=", "501 5.5.4"),
        (b"SIZE", "501 5.5.4"),
        (b"SIZE=-1", "501 5.5.4"),
        (b"SIZE=" + b"9" * 21, "501 5.5.4"),
        (b"SIZE=1 SIZE=1", "501 5.5.4"),
        (b"SIZE=1 size=2", "501 5.5.4"),
        (b"BODY=9BIT", "501 5.5.4"),
        (b"BODY=BINARYMIME", "555 5.5.4"),
        (b"RET=ALL", "501 5.5.4"),
        (b"ENVID=", "501 5.5.4"),
        (b"ENVID=a+0Ab", "501 5.5.4"),
        (b"ENVID=a+0D+0ARCPT", "501 5.5.4"),
        (b"ENVID=a+b", "501 5.5.4"),
        (b"ENVID=a=b", "501 5.5.4"),
        (b"ENVID=" + b"x" * 101, "501 5.5.4"),
        (b"SMTPUTF8=1", "501 5.5.4"),
        (b"XFOO=1", "555 5.5.4"),
        (b"NOTIFY=NEVER", "555 5.5.4"),
        (b"=1", "501 5.5.4"),
        (b"AUTH=", "501 5.5.4"),
    ],
)
def test_a_bad_parameter_of_mail_is_refused(parameter: bytes, answer: str) -> None:
    assert refusal(b"MAIL FROM:<a@b.example> " + parameter) == answer


@pytest.mark.parametrize(
    ("parameter", "answer"),
    [
        (b"NOTIFY=NEVER,SUCCESS", "501 5.5.4"),
        (b"NOTIFY=SUCCESS,NEVER", "501 5.5.4"),
        (b"NOTIFY=SUCCESS,SUCCESS", "501 5.5.4"),
        (b"NOTIFY=", "501 5.5.4"),
        (b"NOTIFY=MAYBE", "501 5.5.4"),
        (b"ORCPT=a@b", "501 5.5.4"),
        (b"ORCPT=rfc822;", "501 5.5.4"),
        (b"ORCPT=rfc822;a+00b", "501 5.5.4"),
        (b"ORCPT=rfc822;" + b"x" * 500, "501 5.5.4"),
        (b"SIZE=1", "555 5.5.4"),
    ],
)
def test_a_bad_parameter_of_rcpt_is_refused(parameter: bytes, answer: str) -> None:
    assert refusal(b"RCPT TO:<a@b.example> " + parameter) == answer


@pytest.mark.parametrize(
    ("line", "answer"),
    [
        (b"", "500 5.5.2"),
        (b" EHLO x", "500 5.5.2"),
        (b"GET / HTTP/1.1", "500 5.5.2"),
        (b"MAIL", "501 5.1.7"),
        (b"DATA now", "501 5.5.4"),
        (b"EHLO", "501 5.5.4"),
        (b"BDAT", "501 5.5.4"),
        (b"BDAT -1", "501 5.5.4"),
        (b"BDAT 0x10", "501 5.5.4"),
        (b"BDAT 1 FIRST", "501 5.5.4"),
        (b"BDAT 1LAST", "501 5.5.4"),
        (b"BDAT " + b"9" * 21, "501 5.5.4"),
        (b"EHLO a b", "501 5.5.4"),
        (b"EHLO a(b)", "501 5.5.4"),
        (b"AUTH", "504 5.5.4"),
        (b"RCPT TO:<a@b.example>\rRSET", "501 5.5.2"),
        (b'RCPT TO:<"a\0b"@b.example>', "501 5.5.2"),
        (b"MAIL FROM:<a@b\x7f.example>", "501 5.5.2"),
        ("MAIL FROM:<a@bücher.example>".encode(), "553 5.6.7"),
        ("MAIL FROM:<bücher@b.example> BODY=8BITMIME".encode(), "553 5.6.7"),
        ("MAIL FROM:<a@bücher.example> SMTPUTF8=yes".encode(), "501 5.5.4"),
        ("MAIL FROM:<a@bücher..example> SMTPUTF8".encode(), "501 5.1.7"),
        ("RCPT TO:<a@xn--a.é>".encode(), "501 5.1.3"),
        ("RCPT TO:<a@b\u0300-.example>".encode(), "501 5.1.3"),
        ("RCPT TO:<é@b..example>".encode(), "501 5.1.3"),
        (f"RCPT TO:<{'é' * 33}@b.example>".encode(), "501 5.1.3"),
        (f"RCPT TO:<a@{'é' * 300}>".encode(), "501 5.1.3"),
        ("RCPT TO:<a\u202eb@b.example>".encode(), "501 5.5.2"),
        ("RCPT TO:<a\u0085b@b.example>".encode(), "501 5.5.2"),
        ("RCPT TO:<@é.example:a@b.example>".encode(), "501 5.1.3"),
        (b"RCPT TO:<b\xfccher@b.example>", "501 5.5.2"),
        (b"\xff\xfe\xfd", "501 5.5.2"),
        ("EHLO bücher.example".encode(), "501 5.5.2"),
    ],
)
def test_what_is_no_command_is_refused(line: bytes, answer: str) -> None:
    assert refusal(line) == answer


@pytest.mark.parametrize(
    ("line", "code"),
    [
        (b"NOOP x", 250),
        (b"VRFY root", 252),
        (b"EXPN all", 502),
        (b"HELP", 214),
    ],
)
def test_idle_commands_bring_their_answer(line: bytes, code: int) -> None:
    command = parse_command(line)
    assert isinstance(command, Courtesy)
    assert command.reply.code == code


def test_credentials_are_decoded_and_never_shown() -> None:
    auth = parse_plain(base64.b64encode("\0bücher\0s3cret".encode()).decode())
    assert auth == Auth("PLAIN", "bücher", "s3cret")
    assert "s3cret" not in repr(auth)
    assert "AHgAeQ" not in repr(parse_command(b"AUTH PLAIN AHgAeQ=="))


@pytest.mark.parametrize(
    ("plain", "code"),
    [
        (b"\0a\0b\0c", 501),
        (b"a\0b", 501),
        (b"\0\0b", 501),
        (b"\0a\0", 501),
        (b"\0\xff\0b", 501),
        (b"\0a\0" + b"x" * 1_000, 501),
        (b"root\0a\0b", 535),
    ],
)
def test_bad_credentials_are_refused(plain: bytes, code: int) -> None:
    with pytest.raises(Refused) as refused:
        parse_plain(base64.b64encode(plain).decode())
    assert refused.value.reply.code == code


@pytest.mark.parametrize("text", ["=", "====", "AGE", "!!!!", "AGEAYg==x", "AGEA Yg==", "ä"])
def test_bad_base64_is_refused(text: str) -> None:
    with pytest.raises(Refused):
        parse_plain(text)


@pytest.mark.parametrize(
    ("line", "address", "domain"),
    [
        ("jörg@b.example", "jörg@b.example", "b.example"),
        ("a@bücher.example", "a@bücher.example", "xn--bcher-kva.example"),
        ("a@BÜCHER．Example", "a@bücher.example", "xn--bcher-kva.example"),
        ('"用 户"@例子.测试', '"用 户"@例子.测试', "xn--fsqu00a.xn--0zwm56d"),
        ("a@faß.example", "a@faß.example", "xn--fa-hia.example"),
        ("é" * 32 + "@b.example", "é" * 32 + "@b.example", "b.example"),
    ],
)
def test_an_address_in_utf8_is_known_by_its_a_labels(line: str, address: str, domain: str) -> None:
    assert parse_command(f"RCPT TO:<{line}>".encode()) == RcptTo(address, domain)
    mail = parse_command(f"MAIL FROM:<{line}> SMTPUTF8".encode())
    assert mail == MailFrom(address, domain, utf8=True)


def test_an_original_recipient_in_utf8_goes_on_in_ascii() -> None:
    """RFC 6533 §3: the two forms say the same, and only one goes to every host."""
    rcpt = parse_command("RCPT TO:<é@b.example> ORCPT=utf-8;é@b.example NOTIFY=NEVER".encode())
    assert rcpt == RcptTo("é@b.example", "b.example", "NEVER", r"utf-8;\x{E9}@b.example")
