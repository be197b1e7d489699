"""What goes back over the wire: a status and exact bytes. Made inside the transaction, sent only after its commit."""

from dataclasses import dataclass

import msgspec

from licensing.model.bodies import Refusal, SeatTaken


@dataclass(frozen=True, slots=True)
class Answer:
    """`body` is the JSON of an envelope, or of a Refusal or another plain object when `is_envelope` is false."""

    status: int
    body: bytes
    is_envelope: bool = True
    retry_after_s: int | None = None
    code: str = ""  # of a refusal, for counters and the ring of errors

    @property
    def is_refusal(self) -> bool:
        """Whether nothing came of the request."""
        return bool(self.code)


def refuse(
    status: int,
    code: str,
    text: str,
    *,
    seats: tuple[SeatTaken, ...] = (),
    retry_after_s: int | None = None,
) -> Answer:
    """An answer that says what is wrong and what to do."""
    said = Refusal(error=code, text=text, seats=seats, retry_after_s=retry_after_s)
    return Answer(status, msgspec.json.encode(said), False, retry_after_s, code)
