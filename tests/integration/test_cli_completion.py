"""TAB in a real bash, with the real command: commands, options, and names that the running server knows."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mta.cli.completing import Shell
from tests.support.cli import run
from tests.support.sender import NO_DNS, a_sender

SLUICE = Path(sys.executable).parent / "sluice"
# What bash does at TAB: the function that is registered for the command, told the words and which of them is meant.
ASK = """
source /dev/stdin <<< "$SCRIPT"
function=$(complete -p sluice | sed 's/.*-F \\([^ ]*\\).*/\\1/')
COMP_WORDS=({words}) COMP_CWORD={number} COMP_LINE='{line}' COMP_POINT={point}
$function sluice
printf '%s\\n' "${{COMPREPLY[@]}}"
"""


def tab(line: str, **environment: str) -> tuple[list[str], str]:
    """What bash offers at the end of this line, and what stands on the terminal beside it."""
    words = line.split(" ")
    text = ASK.format(
        words=" ".join(f"'{each}'" for each in words),
        number=len(words) - 1,
        line=line,
        point=len(line),
    )
    path = f"{SLUICE.parent}:{os.environ['PATH']}"
    script = run("completion", "bash").out
    done = subprocess.run(
        ["bash", "--norc", "-c", text],
        env={**os.environ, "PATH": path, "SCRIPT": script, **environment},
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
    )
    return sorted(done.stdout.split()), done.stderr


@pytest.fixture(scope="module")
def socket(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    place = tmp_path_factory.mktemp("completion")
    with a_sender(
        place, listener='vmta = "alpha"', more=NO_DNS + "\n[vmta.alpha]\n[vmta.beta]\n"
    ) as sender:
        sender.domain("127.0.0.1:9", name="one.example")
        for name in ("one.example/alpha", "two.example/alpha"):
            sender.server.ask("queue.pause", queue=name)
        sender.server.ask("job.pause", name="news-7")
        yield str(place / "control.sock")


def test_commands_groups_and_options_are_completed() -> None:
    assert tab("sluice mess") == (["messages"], "")
    assert tab("sluice doc") == (["doctor"], "")  # a group that is imported when it is asked for
    assert tab("sluice messages hold --rea") == (["--reason"], "")


def test_names_come_from_the_running_server(socket: str) -> None:
    asked = {
        "sluice queue show one": ["one.example/alpha"],
        "sluice explain two": ["two.example", "two.example/alpha"],
        "sluice vmta pause b": ["beta"],
        "sluice jobs resume n": ["news-7"],
    }
    for line, offered in asked.items():
        assert tab(line, SLUICE_SOCKET=socket) == (offered, ""), line


def test_without_a_server_nothing_is_offered_and_nothing_said(tmp_path: Path) -> None:
    broken = tmp_path / "sluice.toml"
    broken.write_text("[server\n")
    for more in ({"SLUICE_SOCKET": str(tmp_path / "none")}, {"SLUICE_CONFIG": str(broken)}):
        began = time.monotonic()
        assert tab("sluice queue show o", **more) == ([], "")
        assert time.monotonic() - began < 20  # 0.4 s alone; a deadline, not a speed


@pytest.mark.parametrize("shell", list(Shell))
def test_the_script_of_each_shell_asks_in_that_shells_way(shell: Shell) -> None:
    script = run("completion", str(shell)).out
    assert f"_SLUICE_COMPLETE=complete_{shell}" in script
    variable = "COMP_WORDS" if shell == Shell.BASH else "_TYPER_COMPLETE_ARGS"
    environment = {
        "_SLUICE_COMPLETE": f"complete_{shell}",
        variable: "sluice mess",
        "COMP_CWORD": "1",
        "_TYPER_COMPLETE_FISH_ACTION": "get-args",
    }
    done = subprocess.run(
        [SLUICE], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert "messages" in done.stdout
    assert done.stderr == ""
