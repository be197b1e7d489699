"""What a path in the configuration means: relative ones start at the file that names them, `%d/…` at systemd's credentials."""

import os
from pathlib import Path

from mta.config.files import KeyPath
from mta.config.report import Report

CREDENTIALS = "%d/"  # systemd.unit(5) writes the directory of a service's credentials so
CREDENTIALS_VARIABLE = "CREDENTIALS_DIRECTORY"


def read_path(text: str, key: KeyPath, report: Report) -> str:
    """The path that `text` at this key names; "" names none."""
    if not text:
        return ""
    if text.startswith(CREDENTIALS):
        directory = os.environ.get(CREDENTIALS_VARIABLE, "")
        if not directory:
            report.problem(
                key,
                f"{CREDENTIALS} is known only to a service with LoadCredential=; to check this file elsewhere, "
                f"set {CREDENTIALS_VARIABLE}=/run/credentials/sluice.service",
            )
            return text
        return str(Path(directory) / text.removeprefix(CREDENTIALS))
    return str(report.tree.origin(key).directory / text)
