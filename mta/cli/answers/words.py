"""What the shapes of all answers share: a base that takes no field it does not know, and the kinds of values with their units."""

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

__all__ = [
    "UNSET",
    "Annotated",
    "Any",
    "Bytes",
    "MaybeTime",
    "Meta",
    "Seconds",
    "Shape",
    "Silent",
    "Time",
    "UnsetType",
]


class Shape(msgspec.Struct, forbid_unknown_fields=True):
    """An object of an answer. A field that may be absent has `UNSET`; one without a value is null."""


Time = Annotated[float, Meta(description="Unix time in seconds.")]
MaybeTime = Annotated[float | None, Meta(description="Unix time in seconds, or null.")]
Seconds = Annotated[float, Meta(description="Seconds.")]
Bytes = Annotated[int, Meta(description="Bytes.")]
Silent = Annotated[
    list[int],
    Meta(description="Workers that did not answer in time: the answer lacks what they have."),
]
