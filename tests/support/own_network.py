"""A piece of a test in a network of its own: nothing is in it but loopback, and all that is sent anywhere passes there.

A thread leaves for a new network namespace; threads and processes that it starts are in it, too. Every address is routed to
loopback, so that an attempt to reach the world is a packet that can be seen, not an error that nobody sees. Needs root.
"""

import ctypes
import errno
import os
import subprocess
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import pytest

CLONE_NEWNET = 0x40000000
ROUTES = (
    ("link", "set", "lo", "up"),
    ("route", "add", "default", "dev", "lo", "src", "127.0.0.1"),
    ("-6", "route", "add", "default", "dev", "lo"),
)

T = TypeVar("T")


def in_a_network_of_its_own(body: Callable[[], T]) -> T:
    """Run it there; what it returns or raises. Skips the test where that is not allowed."""
    with ThreadPoolExecutor(1, thread_name_prefix="own network") as thread:
        return thread.submit(_leave_and_run, body).result()


def _leave_and_run(body: Callable[[], T]) -> T:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        code = ctypes.get_errno()
        if code in (errno.EPERM, errno.ENOSYS):
            pytest.skip(f"no network of its own here: {os.strerror(code)}")
        raise OSError(code, os.strerror(code))
    for words in ROUTES:
        subprocess.run(["ip", *words], check=True, timeout=10)
    return body()
