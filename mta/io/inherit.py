"""Listening sockets that the service manager opened and holds open for us (sd_listen_fds(3), systemd.socket(5)).

They stay open while we restart: clients that come meanwhile wait in the backlog, and nobody is refused. `inherited_listeners`
takes the descriptors, `listening_sockets` says which of them serves which configured address and opens what was not passed.
Anything passed that fits no listener is the operator's mistake: two files name the addresses, and they must agree.
"""

import os
import socket
from collections.abc import MutableMapping, Sequence
from ipaddress import ip_address

from mta.io.listen import open_listener, parse_endpoint
from mta.model.errors import ConfigError, Problem

FIRST_FD = 3  # SD_LISTEN_FDS_START: the first descriptor after the standard three
MAX_PASSED = 1024  # more is no sane unit file, and each is looked at
_VARIABLES = ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


def inherited_listeners(
    environ: MutableMapping[str, str] = os.environ, *, file: str = ""
) -> list[socket.socket]:
    """The sockets passed to this very process, in their order; the variables are removed from `environ`.

    They neither block nor pass on to children. `file` is the configuration, for the text of an error. Raises ConfigError when
    what was passed is no listening TCP socket.
    """
    told = {name: environ.pop(name, "") for name in _VARIABLES}
    if told["LISTEN_PID"] != str(os.getpid()):
        return []  # nobody passed anything, or it was for who started us
    count = told["LISTEN_FDS"]
    if not count.isdecimal() or int(count) > MAX_PASSED:
        text = f"LISTEN_FDS={count!r} is no number of passed sockets"
        raise ConfigError([Problem(file, "listener", text)])
    names = told["LISTEN_FDNAMES"].split(":")
    passed: list[socket.socket] = []
    problems: list[Problem] = []
    for index in range(int(count)):
        name = names[index] if index < len(names) else ""
        try:
            passed.append(_listener_of(FIRST_FD + index))
        except (OSError, ValueError) as error:
            what = f"descriptor {FIRST_FD + index}" + (f" ({name})" if name else "")
            problems.append(
                Problem(file, "listener", f"the service manager passed {what}: {error}")
            )
    if problems:
        close_all(passed)
        raise ConfigError(problems)
    return passed


def listening_sockets(
    addresses: Sequence[str], passed: Sequence[socket.socket], *, file: str = ""
) -> list[socket.socket]:
    """One listening socket for each address, in their order: the one that was passed, or one opened here.

    Raises ConfigError, with every mistake, when a passed socket is no listener's; OSError when an address that was not passed
    is taken or not ours. All sockets, the passed ones too, are closed then.
    """
    found: list[socket.socket] = []
    try:
        by_address = _match(addresses, passed, file)
        for address in addresses:  # one by one: what is open by then is closed when the next fails
            found.append(by_address.get(address) or open_listener(address))  # noqa: PERF401
    except (ConfigError, OSError):
        close_all([*found, *passed])
        raise
    return found


def close_all(sockets: Sequence[socket.socket]) -> None:
    """Close our descriptors."""
    for sock in sockets:
        sock.close()


def _listener_of(fd: int) -> socket.socket:
    """The socket behind a passed descriptor. Raises OSError or ValueError with what it is instead."""
    os.set_inheritable(fd, False)  # also where it turns out to be none of ours
    sock = socket.socket(fileno=fd)
    is_tcp = sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM
    if not is_tcp:
        sock.close()
        raise ValueError("it is no TCP socket; use ListenStream= with an address and a port")
    if not sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
        sock.close()
        raise ValueError("it does not listen; set Accept=no in the .socket unit")
    sock.setblocking(False)
    return sock


def _match(
    addresses: Sequence[str], passed: Sequence[socket.socket], file: str
) -> dict[str, socket.socket]:
    """Configured address → passed socket. Raises ConfigError with every passed socket that fits none, and the reverse."""
    wanted = {_normalised(*parse_endpoint(address)): address for address in addresses}
    found: dict[str, socket.socket] = {}
    problems: list[Problem] = []
    for sock in passed:
        name = _normalised(*sock.getsockname()[:2])
        address = wanted.get(name)
        if address is None:
            problems.append(Problem(file, "listener", _unwanted(name, addresses)))
        elif address in found:
            text = f"the service manager passed two sockets on {address}"
            problems.append(Problem(file, "listener", text))
        else:
            found[address] = sock
    for number, address in enumerate(addresses, 1):
        blocker = _blocker(address, found)
        if blocker and not problems:  # else it is told already, from the other side
            text = (
                f"{address}: the socket that the service manager passed for {blocker} takes IPv4 too; set "
                "BindIPv6Only=ipv6-only and a ListenStream= for each, or remove one of the two listeners"
            )
            problems.append(Problem(file, f"listener[{number}].address", text))
    if problems:
        raise ConfigError(problems)
    return found


def _normalised(host: str, port: int) -> tuple[str, int]:
    """One spelling for each address: `0:0::1` and `::1` are the same."""
    return str(ip_address(host)), port


def _unwanted(name: tuple[str, int], addresses: Sequence[str]) -> str:
    """What to say of a passed socket that no listener names."""
    host, port = name
    shown = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    text = f"the service manager passed a socket on {shown}, and no [[listener]] has that address"
    near = [address for address in addresses if parse_endpoint(address)[1] == port]
    if near:
        return f"{text}; {', '.join(near)} has its port: ListenStream= and address must be the same"
    return f"{text}; add one, or take its ListenStream= out of the .socket unit"


def _blocker(address: str, found: dict[str, socket.socket]) -> str:
    """The passed [::] that keeps an IPv4 address which was not passed from being opened: it takes IPv4 as well."""
    host, port = parse_endpoint(address)
    if address in found or ":" in host:
        return ""
    for other, sock in found.items():
        name = _normalised(*parse_endpoint(other))
        if name == ("::", port) and not sock.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
            return other
    return ""
