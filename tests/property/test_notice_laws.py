"""Laws of notices: whatever hosts, senders and clients wrote, a notice is sound mail that says what it should."""

import email
from email.message import Message

from hypothesis import given, settings
from hypothesis import strategies as st

from mta.bounce.notice import compose_digest
from mta.config.notice_texts import shipped_wordings
from mta.model.told import Action, Told, decode_told, encode_told
from tests.support.notices import a_heading, a_notice, an_attempt, blocks_of, parts_of

HOSTILE = st.text(
    st.one_of(
        st.characters(codec="utf-8"),
        st.sampled_from('\r\n\t\0\x1b\x7f\x85\u2028\u202e\ud800:;<>\\={}+%" '),
    ),
    max_size=120,
)
REPLIES = st.one_of(
    HOSTILE,
    HOSTILE.map(lambda text: f"\r\nBcc: x@y.example\r\n\r\n--=_T1\r\n{text}"),
    st.just("x" * 5000),
)
XTEXT = st.text("abc+=;@.", max_size=20).map(lambda text: text.replace("+", "+2B"))
LOCALS = st.text(st.characters(codec="utf-8", min_codepoint=33), min_size=1, max_size=30)
CONTENT = st.lists(
    st.one_of(
        st.binary(max_size=60),
        st.sampled_from([b"Subject: x", b"", b"--=_T1", b"--=_T1--", b".", b"x" * 2000, b" y"]),
    ),
    max_size=8,
).map(lambda lines: b"\r\n".join(line.replace(b"\r", b"").replace(b"\n", b"") for line in lines))


@st.composite
def tellings(draw: st.DrawFn) -> Told:
    action = draw(st.sampled_from(Action))
    attempt = an_attempt(
        kind={"failed": "b", "delayed": "t", "relayed": "d"}[action],
        recipient=f"{draw(LOCALS)}@example.net",
        orcpt=draw(st.sampled_from(["", "rfc822;", "utf-8;j\\x{FC}", "utf-8;\\x{D800}"])),
        envid=draw(XTEXT),
        code=draw(st.sampled_from([0, 250, 450, 550])),
        enhanced=draw(st.sampled_from(["", "5.1.1", "4.2.1", "2.0.0", "9.9.9", "5.1"])),
        text=draw(REPLIES),
        local=draw(st.booleans()),
        remote_name=draw(HOSTILE),
    )
    return Told(action, attempt, 1_795_400_000.0 if action is Action.DELAYED else 0.0)


def is_sound(notice: bytes) -> Message:
    """RFC 5322 §2.1.1 (lines), RFC 5321 §4.1.1.4 (no bare CR or LF); the header is ours and nothing else."""
    assert b"\r" not in notice.replace(b"\r\n", b"")
    assert b"\n" not in notice.replace(b"\r\n", b"")
    assert b"\0" not in notice
    assert max(map(len, notice.split(b"\r\n"))) <= 998
    parsed = email.message_from_bytes(notice)
    assert parsed.keys()[:7] == [
        *("From", "To", "Subject", "Date", "Auto-Submitted", "MIME-Version", "Content-Type"),
    ]
    assert set(parsed.keys()[7:]) <= {"Content-Transfer-Encoding"}
    return parsed


@settings(max_examples=60, deadline=None)
@given(
    told=st.lists(tellings(), min_size=1, max_size=4),
    content=CONTENT,
    ret=st.sampled_from(["", "FULL", "HDRS"]),
    utf8=st.booleans(),
    language=st.sampled_from(sorted(shipped_wordings())),
)
def test_a_notice_is_sound_mail_whatever_stands_in_it(
    told: list[Told], content: bytes, ret: str, utf8: bool, language: str
) -> None:
    content = content.replace(b"\0", b"")
    notice = a_notice(*told, content=content, ret=ret, utf8=utf8, language=language)
    parsed = is_sound(notice)
    if parsed["Content-Transfer-Encoding"] != "8bit":
        assert notice.isascii()
    else:
        assert not content.isascii()
    kinds = [part.get_content_type() for part in parts_of(notice)]
    assert len(kinds) == 3
    assert kinds[2] in {
        "text/rfc822-headers", "message/rfc822", "message/global", "message/global-headers",
    }  # fmt: skip
    actions = [dict(block)["action"] for block in blocks_of(notice)[1:]]
    assert actions == [each.action for each in told]


@settings(max_examples=25, deadline=None)
@given(told=st.lists(tellings(), min_size=1, max_size=6), data=st.data())
def test_a_digest_is_sound_mail_whatever_stands_in_it(
    told: list[Told], data: st.DataObject
) -> None:
    names = [data.draw(st.sampled_from(["1f2e3d4c-1", "1f2e3d4c-2"])) for _ in told]
    digest = compose_digest(told, names, a_heading())
    is_sound(digest)
    assert digest.isascii()
    assert len(parts_of(digest)) == 1 + len(set(names))


@given(tellings())
def test_what_is_owed_is_read_back_as_it_was_written(told: Told) -> None:
    text = told.attempt.text.encode("utf-8", "replace").decode()
    told.attempt.text = text
    told.attempt.remote_name = ""
    told.attempt.recipient = "b@example.net"
    assert decode_told(encode_told(told)) == told
