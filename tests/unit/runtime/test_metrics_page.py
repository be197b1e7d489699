"""`/metrics` over several workers: side by side, within a second, and whatever becomes of one of them."""

import asyncio
import time

from prometheus_client.parser import text_string_to_metric_families

from mta.runtime.metrics_page import MetricsPage
from tests.support.faces import Face, FaultyFace, GoneFace, ServerFake, SilentFace


def up(text: str) -> dict[str, float]:
    families = {family.name: family for family in text_string_to_metric_families(text)}
    return {each.labels["worker"]: each.value for each in families["sluice_worker_up"].samples}


async def test_the_page_over_http_shows_who_answers_and_who_does_not() -> None:
    faces = [
        Face(0, numbers={"delivered": 5}),
        SilentFace(1),
        GoneFace(2),
        FaultyFace(3),
        Face(4, numbers={"delivered": 7}),
    ]
    http = await MetricsPage(ServerFake(), faces).open("127.0.0.1:0")
    try:
        began = time.monotonic()
        reader, writer = await asyncio.open_connection(*http.address)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        assert time.monotonic() - began < 2.0
    finally:
        await http.close()
    assert b"text/plain; version=" in head
    text = body.decode()
    assert up(text) == {"0": 1, "1": 0, "2": 0, "3": 0, "4": 1}
    assert 'sluice_delivered_total{worker="4"} 7.0' in text
    assert 'sluice_follower_waiting_events{follower="accounting.main"} 3.0' in text
    assert 'sluice_follower_up{follower="accounting.other"} 0.0' in text
    assert 'sluice_build_info{version="1.2.3"} 1.0' in text


async def asked(workers: list[Face], path: str) -> tuple[int, str]:
    http = await MetricsPage(ServerFake(), workers).open("127.0.0.1:0")
    try:
        reader, writer = await asyncio.open_connection(*http.address)
        writer.write(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        async with asyncio.timeout(10):
            head, _, body = (await reader.read()).partition(b"\r\n\r\n")
        writer.close()
        return int(head.split()[1]), body.decode()
    finally:
        await http.close()


async def test_a_server_is_well_while_all_workers_answer_and_ready_while_one_takes_mail() -> None:
    open_, full = Face(0, numbers={"intake_open": 1}), Face(1, numbers={"intake_open": 0})
    assert await asked([open_, full], "/healthz") == (
        200,
        "ok\nworker 0: takes mail\nworker 1: takes no mail now\n",
    )
    assert (await asked([open_, full], "/readyz"))[0] == 200
    assert (await asked([full], "/readyz"))[0] == 503
    assert (await asked([full], "/healthz"))[0] == 200
    status, text = await asked([open_, GoneFace(1)], "/healthz")
    assert status == 503 and "worker 1: does not answer" in text
    assert (await asked([open_, GoneFace(1)], "/readyz"))[0] == 200


async def test_scrapes_at_once_ask_each_worker_once() -> None:
    face = Face(0, numbers={"queues": 1})
    page = MetricsPage(ServerFake(), [face])
    pages = await asyncio.gather(*(page.page() for _ in range(5)))
    assert len(set(pages)) == 1
    assert face.asked == ["metrics"]
    await page.page()
    assert face.asked == ["metrics", "metrics"]
