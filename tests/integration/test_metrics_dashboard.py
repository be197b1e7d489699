"""The dashboard that is shipped, against the page of a real server: every metric and label it names is there."""

import json
import re
import smtplib
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.daemon import free_port, running
from tests.support.host import Dialogue, Host

DASHBOARD = Path(__file__).parents[2] / "config" / "grafana" / "sluice.json"
FROM_PROMETHEUS = {"instance", "job"}  # every scrape adds them

METRIC = re.compile(r"\b(sluice_\w+)(?:\{([^}]*)\})?")
LABEL = re.compile(r"(\w+)\s*[=!]~?\s*\"")
GROUPING = re.compile(r"\bby\s*\(([^)]*)\)")
LEGEND = re.compile(r"\{\{(\w+)\}\}")

Page = dict[str, set[str]]  # sample name → the labels it is shown with


def by_local_part(dialogue: Dialogue, command: str) -> bytes | None:
    if command.startswith("RCPT TO:<450"):
        return b"450 4.2.1 not now\r\n"
    if command.startswith("MAIL FROM:<421"):
        return b"421 4.7.0 too many connections\r\n"
    if command.startswith("RCPT TO:<550"):
        return b"550 5.1.1 unknown\r\n"
    return None


def scraped(port: int, path: str = "/metrics") -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return str(answer.read().decode())


def samples_of(text: str) -> dict[str, list[Any]]:
    found = defaultdict(list)
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name].append(sample)
    return found


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, list[Any]]]:
    """The page of a server that has delivered, deferred and bounced something."""
    place, port = tmp_path_factory.mktemp("dashboard"), free_port()
    with Host(script=by_local_part) as host:
        default = f'hosts = ["127.0.0.1:{host.port}"]'
        more = f'[metrics]\naddress = "127.0.0.1:{port}"\n[site.named]\ndomains = ["named.example"]'
        with running(place, default=default, more=more) as daemon:
            with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
                for recipient in ("good@named.example", "450@named.example", "550@other.example"):
                    client.sendmail("a@sender.example", [recipient], "Subject: x\r\n\r\nx\r\n")
                client.sendmail(
                    "421@sender.example", ["a@third.example"], "Subject: x\r\n\r\nx\r\n"
                )
            daemon.wait_for(delivered=1, bounced=1)
            until = time.monotonic() + 20
            while time.monotonic() < until and not all(
                each in scraped(port)
                for each in ('outcome="deferred"', "sluice_queue_refusals_total{")
            ):
                time.sleep(0.1)
            assert scraped(port, "/healthz").startswith("ok\n")
            assert scraped(port, "/readyz").startswith("ok\n")
            time.sleep(0.3)  # the spool is counted again a little after it was
            yield samples_of(scraped(port))


def queries() -> list[tuple[str, str, str]]:
    """Each panel's title with its query and its legend."""
    dashboard = json.loads(DASHBOARD.read_text("utf-8"))
    return [
        (panel["title"], target["expr"], target["legendFormat"])
        for panel in dashboard["panels"]
        for target in panel.get("targets", ())
    ]


@pytest.mark.parametrize(("title", "query", "legend"), queries())
def test_every_query_names_metrics_and_labels_that_the_server_shows(
    page: dict[str, list[Any]], title: str, query: str, legend: str
) -> None:
    named = METRIC.findall(query)
    assert named, title
    for metric, selectors in named:
        assert metric in page, f"{title}: there is no {metric}"
        labels = {name for sample in page[metric] for name in sample.labels} | FROM_PROMETHEUS
        used = set(LABEL.findall(selectors)) | set(LEGEND.findall(legend))
        for group in GROUPING.findall(query):
            used |= {name.strip() for name in group.split(",")}
        assert used <= labels, f"{title}: {metric} has no label {sorted(used - labels)}"


@pytest.mark.parametrize(("title", "query", "legend"), queries())
def test_a_rate_is_taken_of_what_only_rises_and_of_nothing_else(
    title: str, query: str, legend: str
) -> None:
    for metric, _ in METRIC.findall(query):
        rises = metric.endswith(("_total", "_bucket", "_sum", "_count"))
        assert rises == bool(re.search(rf"(?:rate|increase)\({metric}\b", query)), title


def test_every_series_of_a_legend_is_one_of_the_grouping() -> None:
    for title, query, legend in queries():
        grouped = {name.strip() for each in GROUPING.findall(query) for name in each.split(",")}
        assert set(LEGEND.findall(legend)) <= grouped, title


def test_the_numbers_of_four_messages_are_those_of_four_messages(
    page: dict[str, list[Any]],
) -> None:
    attempts = {
        (each.labels["site"], each.labels["outcome"]): each.value
        for each in page["sluice_attempts_by_site_total"]
    }
    assert attempts["named", "delivered"] == 1 and attempts["named", "deferred"] >= 1
    assert attempts["other", "bounced"] == 1
    refused = {
        (each.labels["category"], each.labels["verdict"]): each.value
        for each in page["sluice_refusals_total"]
    }
    assert refused["bad-mailbox", "hard"] == 1 and sum(refused.values()) >= 2
    assert page["sluice_accept_seconds_count"][0].value == 4
    assert page["sluice_delivery_seconds_count"][0].value == 1
    assert page["sluice_data_seconds_count"][0].value == 1
    assert page["sluice_connect_seconds_count"][0].value >= 1
    assert page["sluice_commit_seconds_count"][0].value >= 1
    assert page["sluice_commit_operations_sum"][0].value >= 3
    queues = {each.labels["queue"]: each.value for each in page["sluice_queue_recipients"]}
    assert queues["named.example/default"] == 1 and "other" in queues


def test_two_workers_and_the_follower_stand_on_one_page(tmp_path: Path) -> None:
    port = free_port()
    more = f'[metrics]\naddress = "127.0.0.1:{port}"'
    with Host() as host:
        default = f'hosts = ["127.0.0.1:{host.port}"]'
        with running(tmp_path, default=default, more=more, server="workers = 2") as daemon:
            for number in range(4):
                with smtplib.SMTP("127.0.0.1", daemon.port, timeout=10) as client:
                    client.sendmail(
                        "a@x.example", [f"{number}@y.example"], "Subject: x\r\n\r\nx\r\n"
                    )
            daemon.wait_for(delivered=4)
            page = samples_of(scraped(port))
            assert scraped(port, "/healthz").count("takes mail") == 2
    assert {each.labels["worker"] for each in page["sluice_commit_seconds_count"]} == {"0", "1"}
    assert sum(each.value for each in page["sluice_delivery_seconds_count"]) == 4
    assert sum(each.value for each in page["sluice_attempts_by_site_total"]) == 4
    lags = {each.labels["follower"]: each.value for each in page["sluice_follower_lag_seconds"]}
    assert lags.keys() == {"accounting.main", "statistics"} and max(lags.values()) < 60
