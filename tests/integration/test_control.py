"""The control socket, both ends over a real one: who may ask, what is refused, and what the operator reads."""

import asyncio
import json
import os
import socket
import stat
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from mta.control import server as server_module
from mta.control.access import Peer, may_control, open_socket, read_peer
from mta.control.client import ControlClient
from mta.control.protocol import MAX_REQUEST, ControlError
from mta.control.registry import NoArguments, Registry
from mta.control.server import ControlServer


class EchoArgs(msgspec.Struct, forbid_unknown_fields=True):
    text: str
    times: int = 1


class CountArgs(msgspec.Struct, forbid_unknown_fields=True):
    to: int


async def echo(args: EchoArgs) -> str:
    return args.text * args.times


async def count(args: CountArgs) -> AsyncIterator[int]:
    for number in range(args.to):
        if number == 1300:
            raise ControlError("no further", "ask for less")
        yield number


async def refuse(_: NoArguments) -> None:
    raise ControlError("no such queue", "see `sluice queues`")


async def fail(_: NoArguments) -> None:
    raise KeyError("a bug")


async def sleep(_: NoArguments) -> None:
    await asyncio.Event().wait()


async def time_out(_: NoArguments) -> None:
    raise TimeoutError


def verbs() -> Registry:
    registry = Registry()
    registry.add("echo", EchoArgs, echo, help="Say it back.")
    registry.add("count", CountArgs, count)
    registry.add("refuse", NoArguments, refuse, changes=True)
    registry.add("fail", NoArguments, fail)
    registry.add("sleep", NoArguments, sleep, deadline_s=0.05)
    registry.add("time_out", NoArguments, time_out)
    return registry


@asynccontextmanager
async def a_daemon(path: Path) -> AsyncIterator[ControlServer]:
    daemon = ControlServer(path, verbs())
    await daemon.start()
    try:
        yield daemon
    finally:
        await daemon.close()


async def ask(path: Path, work: Callable[[ControlClient], Any]) -> Any:
    """What `work` makes of a client, in a thread: the client is synchronous."""

    def run() -> Any:
        with ControlClient(path, timeout_s=10) as client:
            return work(client)

    return await asyncio.to_thread(run)


async def error_of(awaitable: Awaitable[Any]) -> ControlError:
    with pytest.raises(ControlError) as caught:
        await awaitable
    return caught.value


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "control.sock"


async def test_a_verb_is_answered_and_a_connection_serves_many(path: Path) -> None:
    async with a_daemon(path):
        answers = await ask(
            path, lambda c: [c.call("echo", text=str(n), times=2) for n in range(5)]
        )
    assert answers == ["00", "11", "22", "33", "44"]


async def test_a_long_list_comes_in_pieces_and_an_empty_one_as_nothing(path: Path) -> None:
    async with a_daemon(path):
        assert await ask(path, lambda c: list(c.stream("count", to=1200))) == list(range(1200))
        assert await ask(path, lambda c: c.call("count", to=600)) == list(range(600))
        assert await ask(path, lambda c: list(c.stream("count", to=0))) == []


async def test_an_error_in_the_middle_of_a_list_ends_it_with_its_text(path: Path) -> None:
    def read(client: ControlClient) -> tuple[int, str]:
        seen = 0
        try:
            for _ in client.stream("count", to=2000):
                seen += 1
        except ControlError as error:
            return seen, error.text
        raise AssertionError("no error came")

    async with a_daemon(path):
        assert await ask(path, read) == (1000, "no further")


async def test_a_refusal_carries_its_hint(path: Path) -> None:
    async with a_daemon(path):
        error = await error_of(ask(path, lambda c: c.call("refuse")))
    assert (error.text, error.hint) == ("no such queue", "see `sluice queues`")


async def test_an_unknown_verb_names_the_nearest(path: Path) -> None:
    async with a_daemon(path):
        error = await error_of(ask(path, lambda c: c.call("ehco")))
    assert error.text == "unknown verb 'ehco'"
    assert error.hint == "did you mean echo?"


@pytest.mark.parametrize(
    ("args", "named"),
    [({"text": 5}, "$.text"), ({}, "`text`"), ({"text": "a", "tmies": 2}, "`tmies`")],
)
async def test_a_wrong_argument_is_named(path: Path, args: dict[str, Any], named: str) -> None:
    async with a_daemon(path):
        error = await error_of(ask(path, lambda c: c.call("echo", **args)))
    assert named in error.text
    assert error.hint == "echo takes: text, times"


async def test_a_fault_of_ours_is_said_and_the_connection_goes_on(path: Path) -> None:
    def work(client: ControlClient) -> Any:
        with pytest.raises(ControlError, match="a fault of ours: KeyError"):
            client.call("fail")
        return client.call("echo", text="still here")

    async with a_daemon(path):
        assert await ask(path, work) == "still here"


async def test_a_verb_that_takes_too_long_is_answered_in_its_place(path: Path) -> None:
    async with a_daemon(path):
        error = await error_of(ask(path, lambda c: c.call("sleep")))
        assert "longer than 0.05 s" in error.text
        assert "longer than" in (await error_of(ask(path, lambda c: c.call("time_out")))).text


@pytest.mark.parametrize("line", [b"garbage\n", b"[]\n", b'{"verb": 5}\n', b'{"verb":"x","y":1}\n'])
async def test_what_is_no_request_is_answered_with_an_error(path: Path, line: bytes) -> None:
    async with a_daemon(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(line)
        answer = json.loads(await reader.readline())
        writer.close()
    assert answer["error"]["text"].startswith("no request: ")


async def test_a_line_without_end_is_refused_in_bounded_memory(path: Path) -> None:
    async with a_daemon(path):
        reader, writer = await asyncio.open_unix_connection(path)
        writer.write(b"x" * (MAX_REQUEST + 100_000))
        answer = json.loads(await reader.readline())
        assert "at most" in answer["error"]["text"]
        writer.close()


async def test_more_connections_than_allowed_are_told_to_come_back(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server_module, "MAX_CONNECTIONS", 2)
    async with a_daemon(path):
        held = [await asyncio.open_unix_connection(path) for _ in range(2)]
        error = await error_of(ask(path, lambda c: c.call("echo", text="a")))
        assert error.text == "too many control connections"
        for _, writer in held:
            writer.close()


def test_the_socket_is_0660_whatever_the_umask_and_the_umask_comes_back(path: Path) -> None:
    before = os.umask(0)
    try:
        with open_socket(path):
            assert stat.S_IMODE(path.stat().st_mode) == 0o660
        assert os.umask(0) == 0
    finally:
        os.umask(before)


def test_a_socket_left_by_a_dead_daemon_is_replaced(path: Path) -> None:
    open_socket(path).close()
    with open_socket(path):
        assert path.is_socket()


async def test_a_second_daemon_is_refused_and_the_first_goes_on(path: Path) -> None:
    async with a_daemon(path):
        with pytest.raises(ControlError, match="another daemon answers"):
            await ControlServer(path, verbs()).start()
        assert await ask(path, lambda c: c.call("echo", text="a")) == "a"


def test_a_file_in_the_way_is_not_removed(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(ControlError, match="is no socket"):
        open_socket(path)
    assert path.read_text() == "precious"


def test_a_path_too_long_for_a_socket_is_said_before_the_kernel_does(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="too long"):
        open_socket(tmp_path / ("x" * 120))


async def live_briefly(path: Path, meanwhile: Callable[[], None]) -> None:
    async with a_daemon(path):
        meanwhile()


def test_the_socket_is_gone_after_the_daemon(path: Path) -> None:
    asyncio.run(live_briefly(path, lambda: None))
    assert not path.exists()


def test_the_socket_of_a_newer_daemon_is_left_alone(path: Path) -> None:
    newer = []

    def replace() -> None:
        path.unlink()
        newer.append(open_socket(path))

    asyncio.run(live_briefly(path, replace))
    assert path.is_socket()
    newer[0].close()


def test_the_kernel_says_who_is_there_with_all_groups() -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX)
    with ours, theirs:
        peer = read_peer(ours)
    assert (peer.pid, peer.uid) == (os.getpid(), os.geteuid())
    assert peer.gids >= {os.getegid(), *os.getgroups()}


@pytest.mark.parametrize(
    ("uid", "gids", "may"),
    [(0, {0}, True), (900, {900}, True), (1000, {1000, 900}, True), (1000, {1000}, False)],
)
def test_root_the_own_user_and_the_group_may_control(uid: int, gids: set[int], may: bool) -> None:
    assert may_control(Peer(1, uid, frozenset(gids)), own_uid=900, socket_gid=900) is may


def open_to_all(path: Path) -> None:
    # As many as pytest made: it adds a directory for each of its own workers.
    for directory in path.parents:
        if directory == Path(tempfile.gettempdir()):
            break
        directory.chmod(0o755)
    path.chmod(0o666)


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to become somebody else")
async def test_a_stranger_is_refused_even_where_the_file_modes_would_let_him(path: Path) -> None:
    async with a_daemon(path):
        open_to_all(path)
        code = (
            "import os, socket, sys; os.setgroups([]); os.setgid(65534); os.setuid(65534);"
            "s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); print(s.makefile().readline())"
        )
        child = await asyncio.create_subprocess_exec(
            "python3", "-c", code, str(path), stdout=asyncio.subprocess.PIPE
        )
        said, _ = await child.communicate()
    assert json.loads(said)["error"]["text"] == "you may not control this daemon"


def test_without_a_daemon_the_path_tried_and_what_to_do_are_said(path: Path) -> None:
    with pytest.raises(ControlError) as caught:
        ControlClient(path)
    assert str(path) in caught.value.text
    assert "sluice run" in caught.value.hint


def test_a_dead_daemon_is_told_from_a_missing_one(path: Path) -> None:
    open_socket(path).close()
    with pytest.raises(ControlError, match="has stopped or died"):
        ControlClient(path)


async def test_a_daemon_that_hangs_up_or_is_none_of_ours_is_said(path: Path) -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        if b"garble" in line:
            writer.write(b"220 mail.example.com ESMTP\r\n")
        writer.close()

    async with await asyncio.start_unix_server(hang_up, path):
        assert "hung up" in (await error_of(ask(path, lambda c: c.call("echo")))).text
        assert "not our daemon" in (await error_of(ask(path, lambda c: c.call("garble")))).text


async def test_a_daemon_that_does_not_answer_is_given_up(path: Path) -> None:
    def work() -> None:
        with ControlClient(path, timeout_s=0.05) as client:
            client.call("echo", text="a")

    with open_socket(path):
        error = await error_of(asyncio.to_thread(work))
    assert "did not answer within 0.05 s" in error.text
