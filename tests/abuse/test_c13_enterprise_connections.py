"""C13: under an Enterprise licence outbound connections are not limited: five thousand at once, counted on the wire."""

import os
import resource
from pathlib import Path

import pytest

from mta.lab.tempers import Temper
from tests.scenario.stage import Letter, Stage, hand_in, wait_until
from tests.support.licensed import an_entitlement, licensed
from tests.support.packets import Recorder

DELAY_S = 10.0
DESCRIPTORS = 12_000  # ours; the server's processes have their own


def enough_descriptors() -> bool:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < DESCRIPTORS <= hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (DESCRIPTORS, hard))
    return resource.getrlimit(resource.RLIMIT_NOFILE)[0] >= DESCRIPTORS


@pytest.mark.soak
@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="a packet capture needs root")
@pytest.mark.timeout(600)
@pytest.mark.parametrize("count", [5000])
def test_c13_five_thousand_connections_at_once(tmp_path: Path, count: int) -> None:
    if not enough_descriptors():
        pytest.skip(f"needs {DESCRIPTORS} descriptors")
    with Stage() as stage:
        # Each of its replies takes so long that all of them talk at the same time.
        host = stage.witness(Temper(delay_s=DELAY_S))
        with (
            Recorder([host.port]) as wire,
            licensed(
                tmp_path,
                an_entitlement(),
                default=f'hosts = ["{host.host}"]\ntls = "none"',
                server='workers = 4\ntotal_connections = "unlimited"',
            ) as (daemon, _),
        ):
            hand_in(daemon, [Letter((f"a@d{n}.example",)) for n in range(count)], connections=20)
            wait_until(
                lambda: wire.peak >= count, lambda: f"{wire.peak} of {wire.seen} at once", 120.0
            )
            shown = daemon.ask("status")["license"]["connections"]
            assert shown["limit"] is None
            assert shown["peak"] >= count
