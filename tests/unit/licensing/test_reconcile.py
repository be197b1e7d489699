"""The ledger against accounting files of any form: CSV, JSON lines, compressed."""

import gzip
from pathlib import Path

import pytest

from licensing.cli import open_records
from licensing.reconcile import compare, count_deliveries

CSV = "type,timeLogged,rcpt\r\nd,2026-01-01 10:00:00+0000,a@x\r\nb,2026-01-01 10:00:00+0000,b@x\r\n"
JSONL = (
    '{"type":"d","timeLogged":"2026-01-01 10:00:00+0000"}\n'
    '{"type":"d","timeLogged":"2026-01-02 10:00:00+0000"}\n'
    '{"type":"t","timeLogged":"2026-01-02 10:00:00+0000"}\n'
)


@pytest.mark.parametrize("packed", [False, True])
def test_files_of_both_forms_are_counted_compressed_or_not(tmp_path: Path, packed: bool) -> None:
    counts = []
    for name, text in (("acct.csv", CSV), ("acct.jsonl", JSONL)):
        path = tmp_path / (f"{name}.gz" if packed else name)
        path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
        with open_records(path) as lines:
            counts.append(count_deliveries(lines))
    assert counts == [{"2026-01-01": 1}, {"2026-01-01": 1, "2026-01-02": 1}]
    assert compare({"2026-01-01": 2, "2026-01-02": 1}, counts[0] + counts[1])["difference"] == 0


@pytest.mark.parametrize(
    "text", ["", "a,b\r\n1,2\r\n", '{"type":"d"}\n', "{no json\n", "type\r\nd\r\n"]
)
def test_what_is_no_accounting_file_or_tells_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError):
        count_deliveries(text.splitlines(keepends=True))
