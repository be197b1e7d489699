"""Event → line of an accounting file: the columns that parsers know, and text that cannot forge a record."""

import csv
import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mta.follow.records import (
    COLUMNS,
    RECORD_TYPES,
    RecordFormat,
    Selection,
    columns_for,
    format_diagnostic,
    format_host,
    format_status,
    format_time,
    make_format,
    quote,
)
from mta.model.event import Event, Gap, QueueDeferred, Received
from tests.support.fake_spool import MIDDAY, SPOOL_UUID, an_attempt


def read(line: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(line, newline=""), strict=True))


def as_fields(event: Event, types: tuple[str, ...] = RECORD_TYPES) -> dict[str, str]:
    form = RecordFormat(types)
    (row,) = read(form.format(SPOOL_UUID, 5, event))
    return dict(zip(form.columns, row, strict=True))


def a_postponement() -> QueueDeferred:
    return QueueDeferred(
        MIDDAY, "example.net", "a", 421, "4.4.1", "connection refused", True,
        "no-answer-from-host", 3, MIDDAY + 600, "mx.example.net", "198.51.100.1", "192.0.2.10", "example.net",
    )  # fmt: skip


def a_reception() -> Received:
    return Received(
        MIDDAY, 7, "news@example.com", 3, 4096, "a", "job-1", "env", "smtp", "192.0.2.7", "feeder", "bob", "192.0.2.1"
    )  # fmt: skip


def test_a_file_of_deliveries_and_bounces_begins_with_the_columns_parsers_know_in_their_order() -> (
    None
):
    assert ",".join(columns_for(["d", "b"])).startswith(
        "type,timeLogged,timeQueued,orig,rcpt,orcpt,dsnAction,dsnStatus,dsnDiag,dsnMta,bounceCat,srcType,srcMta,"
        "dlvType,dlvSourceIp,dlvDestinationIp,dlvEsmtpAvailable,dlvSize,vmta,jobId,envId,queue,vmtaPool,"
    )


def test_our_own_columns_stand_at_the_end_the_event_id_first() -> None:
    columns = columns_for(["d", "b"])
    assert columns[columns.index("eventId") :] == (
        "eventId", "mayRepeat", "messageId", "attempts", "site", "removedBy", "size",
        "category",
    )  # fmt: skip


def test_a_file_of_queue_failures_alone_has_the_ten_columns_of_such_files_first() -> None:
    assert columns_for(["tq"])[:10] == (
        "type", "timeLogged", "dsnStatus", "dsnDiag", "dsnMta", "dlvType", "dlvSourceIp", "dlvDestinationIp", "vmta",
        "queue",
    )  # fmt: skip


def test_a_delivery_has_every_column_that_a_parser_reads() -> None:
    event = an_attempt(
        tls_protocol="TLSv1.3", tls_cipher="TLS_AES_128_GCM_SHA256", may_repeat=True, site="example"
    )
    assert {name: value for name, value in as_fields(event).items() if value} == {
        "type": "d",
        "timeLogged": "2019-02-08 12:00:03+0000",
        "timeQueued": "2019-02-08 12:00:00+0000",
        "orig": "news@example.com",
        "rcpt": "someone@example.net",
        "dsnAction": "relayed",
        "dsnStatus": "2.0.0 (success)",
        "dsnDiag": "smtp;250 2.0.0 OK queued",
        "dsnMta": "mx.example.net (198.51.100.1)",
        "bounceCat": "success",
        "srcType": "smtp",
        "srcMta": "feeder.example.com (192.0.2.7)",
        "dlvType": "smtp",
        "dlvSourceIp": "192.0.2.10",
        "dlvDestinationIp": "198.51.100.1",
        "dlvEsmtpAvailable": "PIPELINING,SIZE,8BITMIME",
        "dlvSize": "4096",
        "vmta": "default",
        "queue": "example.net/default",
        "totalSecondsQueued": "3",
        "timeFirstAttempt": "2019-02-08 12:00:02+0000",
        "dlvTlsProtocol": "TLSv1.3",
        "dlvTlsCipher": "TLS_AES_128_GCM_SHA256",
        "eventId": "0123456789ab:5",
        "mayRepeat": "true",
        "messageId": "01234567-7",
        "attempts": "1",
        "site": "example",
    }  # fmt: skip


def test_a_bounce_says_why_and_leaves_the_columns_of_deliveries_empty() -> None:
    event = an_attempt("b", code=550, enhanced="5.1.1", text="no such user", category="bad-mailbox")
    fields = as_fields(event)
    assert fields["dsnAction"] == "failed"
    assert fields["dsnStatus"] == "5.1.1 (bad destination mailbox address)"
    assert fields["dsnDiag"] == "smtp;550 5.1.1 no such user"
    assert fields["bounceCat"] == "bad-mailbox"
    assert not fields["dlvSize"] and not fields["dlvType"] and not fields["dlvSourceIp"]


def test_a_deleted_message_says_who_removed_it() -> None:
    event = an_attempt(
        "b", code=0, enhanced="5.0.0", text="deleted", local=True, by="administrator"
    )
    assert as_fields(event)["removedBy"] == "administrator"


@pytest.mark.parametrize("kind", RECORD_TYPES)
@pytest.mark.parametrize("types", [RECORD_TYPES, ("d", "b"), ("t",), ("tq",), ("r",)])
def test_a_record_fills_only_the_columns_of_its_type_and_stands_only_in_files_that_want_it(
    kind: str, types: tuple[str, ...]
) -> None:
    events: dict[str, Event] = {"tq": a_postponement(), "r": a_reception()}
    form = RecordFormat(types)
    line = form.format(SPOOL_UUID, 1, events.get(kind) or an_attempt(kind, by="x"))
    if kind not in types:
        assert line == ""
        return
    (row,) = read(line)
    filled = {name for name, value in zip(form.columns, row, strict=True) if value}
    assert filled <= {name for name, wanted in COLUMNS.items() if kind in wanted.split()}


def test_a_queue_failure_and_a_reception_are_told_with_what_they_have() -> None:
    queue = as_fields(a_postponement())
    assert (queue["type"], queue["queue"], queue["attempts"]) == ("tq", "example.net/a", "3")
    assert queue["dsnStatus"] == "4.4.1 (no answer from host)"
    assert queue["dsnDiag"] == "x-sluice;421 4.4.1 connection refused"
    assert queue["nextAttempt"] == "2019-02-08 12:10:00+0000"
    reception = as_fields(a_reception())
    assert (reception["type"], reception["recipients"], reception["jobId"]) == ("r", "3", "job-1")
    assert (reception["rcvSourceIp"], reception["rcvDestinationIp"]) == ("192.0.2.7", "192.0.2.1")


def test_a_gap_is_no_record() -> None:
    assert RecordFormat(RECORD_TYPES).format(SPOOL_UUID, 1, Gap(MIDDAY, "statistics", 4)) == ""


@pytest.mark.parametrize(
    ("code", "enhanced", "shown"),
    [
        (250, "", "2.0.0 (success)"),
        (250, "2.1.5", "2.1.5 (success)"),
        (550, "5.1.1", "5.1.1 (bad destination mailbox address)"),
        (550, "", "5.0.0 (undefined status)"),
        (450, "4.2.2", "4.2.2 (mailbox full)"),
        (550, "5.7.26", "5.7.26 (undefined status)"),
        (0, "", "4.0.0 (undefined status)"),
        (556, "5.1.10", "5.1.10 (recipient address has null MX)"),
    ],
)
def test_the_status_is_a_code_with_its_words(code: int, enhanced: str, shown: str) -> None:
    assert format_status(code, enhanced) == shown


def test_a_diagnostic_shows_what_there_is() -> None:
    assert format_diagnostic(550, "", "no", local=False) == "smtp;550 no"
    assert format_diagnostic(0, "4.4.1", "no answer", local=True) == "x-sluice;4.4.1 no answer"


def test_a_host_shows_what_is_known() -> None:
    assert format_host("mx", "192.0.2.1") == "mx (192.0.2.1)"
    assert format_host("mx", "") == "mx"
    assert format_host("", "192.0.2.1") == "(192.0.2.1)"
    assert format_host("", "") == ""


def test_never_is_an_empty_time() -> None:
    assert format_time(0) == ""
    assert format_time(1_549_662_845.9) == "2019-02-08 21:54:05+0000"


def test_a_newline_in_a_value_is_quoted_so_that_a_reader_gets_it_back() -> None:
    assert read(quote('a\r\nb,"c"') + "\r\n") == [['a\r\nb,"c"']]


def test_a_reply_with_control_characters_is_one_line_with_escapes() -> None:
    event = an_attempt("b", code=550, enhanced="", text='no\r\nd,forged\x1b[2J\x85\u202e, "x"')
    line = RecordFormat(["d", "b"]).format(SPOOL_UUID, 1, event)
    assert line.count("\n") == 1
    assert r'smtp;550 no\x0d\x0ad,forged\x1b[2J\x85\u202e, ""x""' in line


any_text = st.text(max_size=30) | st.sampled_from(
    ['"', ",", ",,", '",', "\r\n", "a,b", "\ud800", "\x00"]
)


@given(recipient=any_text, text=any_text, job=any_text, extensions=any_text, name=any_text)
def test_whatever_strangers_say_a_record_stays_one_row_of_the_right_width(
    recipient: str, text: str, job: str, extensions: str, name: str
) -> None:
    form = RecordFormat(["d", "b"])
    event = an_attempt(
        recipient=recipient, text=text, job=job, extensions=extensions, remote_name=name
    )
    line = form.format(SPOOL_UUID, 1, event)
    assert line.endswith("\r\n") and len(line.splitlines()) == 1
    (row,) = read(line.encode().decode())
    fields = dict(zip(form.columns, row, strict=True))
    assert fields["eventId"] == "0123456789ab:1"
    for value, column in ((recipient, "rcpt"), (job, "jobId"), (extensions, "dlvEsmtpAvailable")):
        if value.isprintable():
            assert fields[column] == value


def test_a_line_of_json_says_what_the_line_of_csv_says_with_numbers_as_numbers() -> None:
    event = an_attempt(text='quoted "text", with\r\na line end', may_repeat=True, job="j")
    record = json.loads(make_format("jsonl", RECORD_TYPES).format(SPOOL_UUID, 5, event))
    fields = {name: value for name, value in as_fields(event).items() if value}
    assert {name: str(value) for name, value in record.items()} == {**fields, "mayRepeat": "True"}
    assert record["dlvSize"] == 4096 and record["attempts"] == 1 and record["mayRepeat"] is True


@given(st.text())
def test_no_text_of_a_stranger_makes_two_lines_of_json(text: str) -> None:
    line = make_format("jsonl", ("d",)).format(SPOOL_UUID, 5, an_attempt(text=text, sender=text))
    assert line.startswith('{"type":"d"') and line.endswith("}\n")
    assert len(line.splitlines()) == 1
    json.loads(line)


def test_chosen_columns_stand_in_the_order_asked_for_behind_the_type() -> None:
    form = make_format("csv", ("d", "b"), ("rcpt", "type", "timeLogged", "rcpt"))
    assert form.header == b"type,rcpt,timeLogged\r\n"
    line = form.format(SPOOL_UUID, 5, an_attempt())
    assert line == "d,someone@example.net,2019-02-08 12:00:03+0000\r\n"


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_the_type_alone_is_a_choice_too(kind: str) -> None:
    form = make_format(kind, ("d",), ("type",))
    line = form.format(SPOOL_UUID, 5, an_attempt())
    assert line == ("d\r\n" if kind == "csv" else '{"type":"d"}\n')


def test_extensions_that_are_not_shown_do_not_put_quotes_around_anything() -> None:
    form = make_format("csv", ("d",), ("rcpt",))
    assert form.format(SPOOL_UUID, 5, an_attempt(extensions="A,B")) == "d,someone@example.net\r\n"


def test_a_set_can_choose_by_virtual_mta_job_and_domain() -> None:
    chosen = Selection(vmtas=("a",), jobs=("!test*",), domains=("example.net",))
    form = make_format("csv", ("d", "tq", "r"), (), chosen)
    told = [
        bool(form.format(SPOOL_UUID, 5, event))
        for event in (
            an_attempt(vmta="a", job="news"),
            an_attempt(vmta="b", job="news"),
            an_attempt(vmta="a", job="test-1"),
            an_attempt(vmta="a", job="news", domain="example.org"),
            a_postponement(),  # has no job, and is not judged by it
            a_reception(),  # has no domain
        )
    ]
    assert told == [True, False, False, False, True, True]
