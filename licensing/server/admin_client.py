"""Asks a licence server's admin face, over mTLS. Plain values in and out."""

import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from licensing.errors import LicenseError

TIMEOUT_S = 30.0
MAX_ANSWER = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class AdminClient:
    """Where the server is, and who we are. `authority`: who signed the server's certificate, None for the system's own."""

    url: str
    certificate: Path
    key: Path
    authority: Path | None = None

    def get(self, path: str, **query: str | None) -> Any:
        """What stands under /admin/v1/`path`. Raises LicenseError."""
        asked = urllib.parse.urlencode({k: v for k, v in query.items() if v is not None})
        return self._ask("GET", f"{path}?{asked}" if asked else path, None)

    def post(self, path: str, body: bytes = b"") -> Any:
        """Have something done. Raises LicenseError."""
        return self._ask("POST", path, body)

    def _ask(self, method: str, path: str, body: bytes | None) -> Any:
        if not self.url.startswith("https://"):
            raise LicenseError("server", f"{self.url} is no https:// URL")
        request = urllib.request.Request(
            f"{self.url.rstrip('/')}/admin/v1/{path}", data=body, method=method
        )
        try:
            with urllib.request.urlopen(
                request, timeout=TIMEOUT_S, context=self._context()
            ) as answer:
                return json.loads(answer.read(MAX_ANSWER))
        except urllib.error.HTTPError as error:
            with error:
                said = error.read(MAX_ANSWER)
            raise LicenseError(str(error.code), _text_of(said) or str(error)) from None
        except (OSError, ValueError) as error:
            raise LicenseError("server", f"{self.url} does not answer: {error}") from error

    def _context(self) -> ssl.SSLContext:
        context = ssl.create_default_context(cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context


def _text_of(said: bytes) -> str:
    try:
        return str(json.loads(said)["text"])
    except (ValueError, KeyError, TypeError):
        return ""
