"""What we tell systemd (sd_notify): ready, stopping, alive. Does nothing where nobody listens.

A datagram to the socket that `NOTIFY_SOCKET` names. Nothing here may harm the daemon: a send that
fails is no error, and it never blocks.
"""

import os
import socket
from collections.abc import Mapping


class Notifier:
    """Sends states to the service manager that started us, if one did."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        address = environment.get("NOTIFY_SOCKET", "")
        # "@name" is a socket in the abstract namespace.
        self._address = "\0" + address[1:] if address.startswith("@") else address
        self._watchdog_s = _read_watchdog(environment)

    @property
    def watchdog_interval_s(self) -> float | None:
        """How often to call `alive`: half of what systemd allows (sd_watchdog_enabled(3)); None:
        not at all."""
        return self._watchdog_s / 2 if self._watchdog_s else None

    def ready(self, status: str = "") -> bool:
        """We listen and deliver."""
        return self._send("READY=1", status)

    def stopping(self, status: str = "") -> bool:
        """We finish what is under way."""
        return self._send("STOPPING=1", status)

    def alive(self) -> bool:
        """The event loop still turns: call it from there, never from a thread."""
        return self._send("WATCHDOG=1")

    def status(self, text: str) -> bool:
        """One line for `systemctl status`."""
        return self._send("", text)

    def _send(self, state: str, status: str = "") -> bool:
        if not self._address:
            return False
        lines = [state] if state else []
        if status:
            lines.append("STATUS=" + status.replace("\n", " "))
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as sender:
            try:
                sender.sendto("\n".join(lines).encode(), self._address)
            except OSError:
                return False
        return True


def _read_watchdog(environment: Mapping[str, str]) -> float:
    microseconds = environment.get("WATCHDOG_USEC", "")
    # Without WATCHDOG_PID it is for whoever reads it (sd_watchdog_enabled(3)).
    is_ours = environment.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(microseconds) / 1e6 if is_ours and microseconds.isdecimal() else 0.0
