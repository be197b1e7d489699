"""What goes over the wire around the statements: batches of reports, what the vendor once acknowledged, refusals."""

from typing import Annotated

from msgspec import Meta, Struct

from licensing.envelope import Envelope
from licensing.model.fields import Count


class Presented(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/reports when the server fell behind what it once acknowledged: its own word, shown to it (A27).

    Otherwise the body is the envelope of the report alone. `report` is byte for byte the one that was refused.
    """

    report: Envelope
    last_ack: Envelope


class ReportBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The body of POST /v1/reports:batch: reports carried by hand or by a relay, the oldest of each node first."""

    reports: Annotated[tuple[Envelope, ...], Meta(min_length=1, max_length=200)]


class SeatTaken(Struct, frozen=True, kw_only=True):
    """One seat of a licence, as told to a node that found none free (A1)."""

    label: str
    server_class: str
    seats: int
    last_seen: Count


class Refusal(Struct, frozen=True, kw_only=True):
    """Why a request was not taken: the JSON body of every answer that is no envelope. `error` is for programs."""

    error: str
    text: str
    seats: tuple[SeatTaken, ...] = ()
    retry_after_s: int | None = None


class BatchAnswer(Struct, frozen=True, kw_only=True):
    """The answer to one report of a batch: the status it would have had alone, and an envelope or a refusal."""

    status: int
    envelope: Envelope | None = None
    refusal: Refusal | None = None


class BatchAnswers(Struct, frozen=True, kw_only=True):
    """The body of the answer to POST /v1/reports:batch, in the order of the reports."""

    answers: tuple[BatchAnswer, ...]
