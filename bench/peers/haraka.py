"""Haraka from npm (bench/install-peers), relaying through its outbound queue, one cluster worker a core.

Tuned after the page "Performance Tuning" of its wiki and docs/Outbound.md: `nodes=cpus`, the scheduling of
connections left to the kernel, as few plugins as can be. Its queue files are synced before each 250
(FsyncWriteStream), as always.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.peers import DEAD_DOMAIN, Setup
from bench.peers.room import PEERS
from bench.processes import Child, free_port, wait_for_banner
from bench.signature import CHECK_DOMAIN

HOME = PEERS / "haraka" / "node_modules" / "Haraka"
ENVIRONMENT = {
    # Wiki, Performance Tuning: "When running with nodes=cpus, … NODE_CLUSTER_SCHED_POLICY=none".
    "NODE_CLUSTER_SCHED_POLICY": "none",
    # The same page: more threads for what libuv does in threads; every fsync is one such thing.
    "UV_THREADPOOL_SIZE": "16",
}
SETTINGS = {
    "smtp.ini": "listen=127.0.0.1:{port}\nnodes=cpus\n[headers]\nadd_received=true\n",
    # docs/Outbound.md: per worker. More than the others have, for it opens a connection for each message.
    "outbound.ini": "concurrency_max=100\nenable_tls=false\nlocal_mx_ok=true\ninet_prefer=v4\n",
    # A line for each delivery is `notice`: the least that keeps a record, as the others keep theirs.
    "log.ini": "[main]\nlevel=notice\n",
    "plugins": "bench_route\n",
    "me": "haraka.bench.example\n",
}
PLUGIN = """\
// Everybody who connects (on loopback) may relay; mail goes where the run says.
const routes = {routes}
exports.hook_connect = (next, connection) => {{
    connection.relaying = true
    next()
}}
exports.hook_get_mx = (next, hmail, domain) => {{
    const port = routes[domain] || {sink_port}
    next(OK, {{ priority: 0, exchange: '127.0.0.1', port }})
}}
"""


class RunningHaraka:
    """One private cluster, up and greeting."""

    cpu_is_whole = True

    def __init__(self, port: int, child: Child) -> None:
        self._port = port
        self._child = child

    @property
    def port(self) -> int:
        return self._port

    @property
    def children(self) -> Sequence[Child]:
        return [self._child]

    def loop_lag_p99_ms(self) -> float | None:
        return None

    def recorded(self) -> int:
        with self._child.log.open("rb") as log:
            return sum(b" delivered file=" in line for line in log)


class Haraka:
    """Haraka with `nodes=cpus`."""

    @property
    def name(self) -> str:
        return "haraka"

    @property
    def settings(self) -> str:
        environment = "; ".join(f"{name}={value}" for name, value in ENVIRONMENT.items())
        files = "; ".join(f"{name}: {' '.join(text.split())}" for name, text in SETTINGS.items())
        return f"{environment}; {files}"

    def missing(self) -> str:
        if not (HOME / "package.json").exists():
            return "not installed: run bench/install-peers"
        return "" if shutil.which("node") else "not installed: node"

    def version(self) -> str:
        return f"Haraka {json.loads((HOME / 'package.json').read_text())['version']}"

    @contextmanager
    def start(self, setup: Setup) -> Iterator[RunningHaraka]:
        port = free_port()
        write_config(setup, port)
        command = ["node", str(HOME / "bin" / "haraka"), "-c", str(setup.directory)]
        log = setup.directory / "haraka.log"
        with Child("haraka", command, log, env=ENVIRONMENT) as child:
            wait_for_banner(port, child, 30.0)
            yield RunningHaraka(port, child)
            # Its orderly end waits 30 s for idle connections; nothing of the run is left to end.
            os.kill(child.pid, signal.SIGKILL)


def write_config(setup: Setup, port: int) -> None:
    """Write the configuration, the plugin and the queue directory of a run."""
    root = setup.directory
    for directory in ("config", "plugins", "queue"):
        (root / directory).mkdir()
    # As `haraka -i` does; without it the greeting fails.
    shutil.copy(HOME / "config" / "connection.ini", root / "config")
    for name, text in SETTINGS.items():
        (root / "config" / name).write_text(text.format(port=port))
    named = ((CHECK_DOMAIN, setup.check_port), (DEAD_DOMAIN, setup.dead_port))
    routes = {domain: to for domain, to in named if to is not None}
    plugin = PLUGIN.format(routes=json.dumps(routes), sink_port=setup.sink_port)
    (root / "plugins" / "bench_route.js").write_text(plugin)
