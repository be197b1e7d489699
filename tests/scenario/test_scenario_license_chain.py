"""The demo of licences (`make license-demo`) checks all that it tells; here it is held to that."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
DEADLINE_S = 280.0


def test_the_whole_chain_of_a_licence_holds_from_its_keys_to_mail_that_flows_again() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.demo.license_chain"],
        cwd=ROOT,
        env={**os.environ, "COLUMNS": "200"},
        capture_output=True,
        text=True,
        timeout=DEADLINE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    # In this order, and none left out.
    at = 0
    for claim in (
        "the server knows it",
        "activated",
        "has counted",
        "the vendor has confirmed",
        "a mail to",
        "is over its limit",
        "messages wait, none is bounced",
        "it came to the node",
        "what was held is delivered",
        "the whole chain holds",
    ):
        at = done.stdout.index(claim, at)
