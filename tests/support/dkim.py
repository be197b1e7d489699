"""Verifies DKIM signatures with dkimpy against records a test holds: our signer does not judge itself."""

from collections.abc import Mapping
from typing import Any

import dkim as dkimpy

_verifier: Any = dkimpy.DKIM


def signatures(message: bytes, records: Mapping[str, str]) -> dict[str, bool]:
    """`selector._domainkey.domain` of each signature of a message → whether it verifies, topmost first."""

    def record(name: bytes, timeout: float = 5) -> bytes | None:
        text = records.get(name.decode().rstrip("."))
        return None if text is None else text.encode()

    verifier = _verifier(message)
    fields = [value for name, value in verifier.headers if name.lower() == b"dkim-signature"]
    found: dict[str, bool] = {}
    for number, value in enumerate(fields):
        tags = dict(
            part.strip().split("=", 1) for part in value.decode().replace("\r\n", "").split(";")
        )
        tags = {name.strip(): text.strip() for name, text in tags.items()}
        name = f"{tags['s']}._domainkey.{tags['d']}"
        try:
            found[name] = bool(_verifier(message).verify(number, dnsfunc=record))
        except dkimpy.DKIMException:
            found[name] = False
    return found
