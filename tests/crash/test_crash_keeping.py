"""Killed before any call that touches a file while finished records are compressed: they are whole at every moment, and once at
the end."""

import subprocess
import sys

# In a process of its own, for it forks: each child is killed one call later than the last. Audit events come before the call.
SCRIPT = """
import gzip, os, sys, tempfile, time
from pathlib import Path
from mta.follow.keeping import FileKeeper
from mta.policy.rules import AccountingRules

RECORDS = b"type,eventId\\r\\n" + b"".join(b"d,%d\\r\\n" % n for n in range(50_000))
WATCHED = ("open", "os.rename", "os.remove", "os.utime", "os.scandir")

def child(keeper, number):
    seen = 0
    def hook(event, arguments):
        nonlocal seen
        if event in WATCHED:
            seen += 1
            if seen == number:
                os.kill(os.getpid(), 9)
    sys.addaudithook(hook)
    keeper.tidy(time.time() + 100)
    os._exit(0)

def is_whole(place):
    plain, packed = place / "acct-2026-01-01-0000.csv", place / "acct-2026-01-01-0000.csv.gz"
    if packed.exists():
        return gzip.decompress(packed.read_bytes()) == RECORDS
    return plain.read_bytes() == RECORDS

for number in range(1, 100):
    place = Path(tempfile.mkdtemp(dir=sys.argv[1]))
    (place / "acct-2026-01-01-0000.csv").write_bytes(RECORDS)
    keeper = FileKeeper(AccountingRules("main", str(place / "acct.csv"), compress=True))
    pid = os.fork()
    if not pid:
        child(keeper, number)
    _, status = os.waitpid(pid, 0)
    assert is_whole(place), (number, os.listdir(place))
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    assert os.WTERMSIG(status) == 9
    keeper.tidy(time.time() + 100)
    assert os.listdir(place) == ["acct-2026-01-01-0000.csv.gz"] and is_whole(place), number
print(number - 1)
"""


def test_records_are_whole_wherever_it_is_killed(tmp_path: object) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) >= 8  # so many places to be killed at
