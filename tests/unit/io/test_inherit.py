"""Sockets passed by a service manager: ours alone, fitted to the listeners, and never ended for who holds them open."""

import asyncio
import fcntl
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing

import pytest

from mta.io.inherit import inherited_listeners, listening_sockets
from mta.io.listen import Acceptor, open_listener
from mta.model.errors import ConfigError


def address_of(sock: socket.socket) -> str:
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with closing(open_listener("127.0.0.1:0")) as sock:
        yield sock


def test_without_a_manager_there_is_nothing_and_the_environment_stays() -> None:
    environ = {"PATH": "/bin"}
    assert inherited_listeners(environ) == []
    assert environ == {"PATH": "/bin"}


def test_what_was_passed_to_another_process_is_left_alone() -> None:
    environ = {"LISTEN_PID": "1", "LISTEN_FDS": "1", "LISTEN_FDNAMES": "x"}
    assert inherited_listeners(environ) == []
    # Who we start must not think it was meant.
    assert environ == {}


@pytest.mark.parametrize("count", ["", "many", "-1", "99999999"])
def test_a_senseless_count_is_an_error_for_the_operator(count: str) -> None:
    environ = {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": count}
    with pytest.raises(ConfigError, match="LISTEN_FDS"):
        inherited_listeners(environ)
    assert environ == {}


CHILD = """
import os, socket, sys
from mta.io.inherit import inherited_listeners
from mta.model.errors import ConfigError
os.environ["LISTEN_PID"] = str(os.getpid())
try:
    found = inherited_listeners()
except ConfigError as error:
    print(error)
    sys.exit(78)
for sock in found:
    print(sock.getsockname(), sock.fileno(), sock.getblocking(), os.get_inheritable(sock.fileno()))
print(sorted(name for name in os.environ if name.startswith("LISTEN_")))
"""


def run_child(*passed: socket.socket, names: str = "") -> subprocess.CompletedProcess[str]:
    """A process that gets these sockets as descriptors 3, 4, …, as systemd would pass them."""
    numbers = " ".join(f"{3 + index}<&{sock.fileno()}" for index, sock in enumerate(passed))
    environ = {**os.environ, "LISTEN_FDS": str(len(passed)), "LISTEN_FDNAMES": names}
    # Redirections happen in order: a high copy of each first, so that none is overwritten.
    high = [fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD, 100) for sock in passed]
    for fd in high:
        os.set_inheritable(fd, True)
    try:
        numbers = " ".join(f"{3 + index}<&{fd}" for index, fd in enumerate(high))
        script = f'exec "$0" -c "$1" {numbers}'
        return subprocess.run(
            ["bash", "-c", script, sys.executable, CHILD],
            env=environ,
            pass_fds=high,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    finally:
        for fd in high:
            os.close(fd)


def test_a_process_takes_what_was_passed_and_its_children_get_nothing_of_it(
    listener: socket.socket,
) -> None:
    with closing(open_listener("[::1]:0")) as other:
        done = run_child(listener, other, names="smtp:submission")
        assert done.stdout.splitlines() == [
            f"{listener.getsockname()} 3 False False",
            f"{other.getsockname()} 4 False False",
            "[]",
        ], done.stderr


def test_what_is_no_listening_tcp_socket_is_named(listener: socket.socket) -> None:
    with (
        closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as unix,
        closing(socket.create_connection(listener.getsockname())) as connected,
    ):
        done = run_child(unix, connected, listener, names="control:smtp")
    assert done.returncode == 78
    assert "descriptor 3 (control): it is no TCP socket" in done.stdout
    assert "descriptor 4 (smtp): it does not listen; set Accept=no" in done.stdout
    assert "descriptor 5" not in done.stdout


def test_each_listener_gets_its_passed_socket_and_the_others_are_opened(
    listener: socket.socket,
) -> None:
    six = open_listener("[::1]:0")
    spelt = address_of(six).replace("[::1]", "[0:0:0::1]")
    addresses = ["127.0.0.1:0", spelt, address_of(listener)]
    found = listening_sockets(addresses, [listener, six])
    with closing(found[0]):
        assert found[0].getsockname()[1] != 0
        assert found[1:] == [six, listener]
    six.close()


def test_wildcards_match_wildcards_of_their_family_only() -> None:
    four = open_listener("0.0.0.0:0")
    port = four.getsockname()[1]
    six = open_listener(f"[::]:{port}")
    assert listening_sockets([f"[::]:{port}", f"0.0.0.0:{port}"], [four, six]) == [six, four]
    with pytest.raises(ConfigError) as caught:
        listening_sockets([f"127.0.0.1:{port}"], [four, six], file="sluice.toml")
    first, second = str(caught.value).splitlines()
    assert first.startswith(
        f"sluice.toml: listener: the service manager passed a socket on 0.0.0.0:{port}, and no"
    )
    assert f"127.0.0.1:{port} has its port" in first
    assert f"[::]:{port}" in second
    assert (four.fileno(), six.fileno()) == (-1, -1)


def test_a_passed_socket_that_nobody_names_is_an_error(listener: socket.socket) -> None:
    with pytest.raises(ConfigError, match=r"add one, or take its ListenStream= out"):
        listening_sockets(["127.0.0.1:1"], [listener])


def test_two_passed_sockets_on_one_address_are_an_error() -> None:
    first = socket.create_server(("127.0.0.1", 0), reuse_port=True)
    second = socket.create_server(first.getsockname(), reuse_port=True)
    with pytest.raises(ConfigError, match="two sockets"):
        listening_sockets([address_of(first)], [first, second])


def test_a_passed_socket_for_both_families_serves_one_listener_and_says_what_it_blocks() -> None:
    def both() -> socket.socket:
        return socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)

    sock = both()
    assert listening_sockets([address_of(sock)], [sock]) == [sock]
    sock.close()
    sock = both()
    port = sock.getsockname()[1]
    with pytest.raises(ConfigError, match=r"listener\[2\].address.*BindIPv6Only=ipv6-only"):
        listening_sockets([f"[::]:{port}", f"0.0.0.0:{port}"], [sock])


def test_an_address_that_is_taken_closes_what_was_opened(listener: socket.socket) -> None:
    passed = open_listener("127.0.0.1:0")
    with pytest.raises(OSError, match="cannot listen on"):
        listening_sockets(["127.0.0.1:0", address_of(passed), address_of(listener)], [passed])
    assert passed.fileno() == -1


async def test_who_waits_in_the_backlog_is_served_by_the_successor(listener: socket.socket) -> None:
    """As over a restart: the manager (`listener`) holds it open, two of ours come and go."""
    loop = asyncio.get_running_loop()

    def acceptor(adopted: asyncio.Queue[socket.socket]) -> Acceptor:
        passed = listener.dup()
        passed.setblocking(False)
        (sock,) = listening_sockets([address_of(listener)], [passed])
        return Acceptor(loop, sock, adopted.put_nowait)

    old: asyncio.Queue[socket.socket] = asyncio.Queue(8)
    new: asyncio.Queue[socket.socket] = asyncio.Queue(8)
    first = acceptor(old)
    first.close()
    with closing(socket.create_connection(listener.getsockname(), 5)) as client:
        assert old.empty()
        second = acceptor(new)
        async with asyncio.timeout(5):
            accepted = await new.get()
        assert accepted.getpeername() == client.getsockname()
        accepted.close()
        second.close()
    # Still open for the next one.
    socket.create_connection(listener.getsockname(), 5).close()
