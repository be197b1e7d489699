"""The control socket and the configuration under garbage: whatever comes is answered with a clear error, and both live on."""

import asyncio
import json
import string
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mta.config.load import load
from mta.control.archive_verbs import ArchiveVerbs
from mta.control.message_verbs import MessageVerbs
from mta.control.order_verbs import OrderVerbs
from mta.control.protocol import MAX_REQUEST
from mta.control.registry import Registry
from mta.control.server import ControlServer
from mta.control.trace_verb import TraceVerb
from mta.control.verbs import Verbs
from mta.model.errors import ConfigError
from tests.support.faces import Face, ServerFake, a_queue

SLOW = (HealthCheck.too_slow, HealthCheck.data_too_large)


def a_registry() -> Registry:
    registry = Registry()
    server, faces = ServerFake(), [Face(0, [a_queue("a.example")]), Face(1)]
    Verbs(server, server, faces).register(registry)
    MessageVerbs(faces).register(registry)
    OrderVerbs(server, faces).register(registry)
    ArchiveVerbs(faces).register(registry)
    TraceVerb(faces).register(registry)
    return registry


NAMES = [each.name for each in a_registry().verbs if each.name not in ("trace", "shutdown")]
FIELDS = sorted({field for each in a_registry().verbs for field in each.args.__struct_fields__})
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)
REQUESTS = st.builds(
    lambda verb, args: json.dumps({"verb": verb, "args": args}).encode(),
    st.sampled_from(NAMES) | st.text(max_size=20),
    st.dictionaries(st.sampled_from(FIELDS) | st.text(max_size=10), VALUES, max_size=4),
)
GARBAGE = st.binary(max_size=200).map(lambda data: data.replace(b"\n", b" "))


async def ask(path: Path, line: bytes) -> list[dict[str, Any]]:
    """The answer's lines: items, then the last. Raises if none comes."""
    async with asyncio.timeout(20):
        reader, writer = await asyncio.open_unix_connection(str(path), limit=32 << 20)
        writer.write(line + b"\n")
        answers = []
        while True:
            answer = json.loads(await reader.readline())
            answers.append(answer)
            if "items" not in answer:
                break
        writer.close()
        return answers


@settings(max_examples=60, suppress_health_check=SLOW)
@given(lines=st.lists(REQUESTS | GARBAGE, min_size=1, max_size=5))
def test_whatever_is_asked_is_answered_and_the_next_is_too(lines: list[bytes]) -> None:
    async def run(place: Path) -> None:
        server = ControlServer(place / "c.sock", a_registry())
        await server.start()
        try:
            for line in lines:
                last = (await ask(server.path, line))[-1]
                if "error" in last:
                    assert last["error"]["text"]
                    assert "a fault of ours" not in last["error"]["text"], (line, last)
            (answer,) = await ask(server.path, b'{"verb": "orders"}')
            assert "ok" in answer
        finally:
            await server.close()

    with tempfile.TemporaryDirectory() as place:
        asyncio.run(run(Path(place)))


@pytest.mark.parametrize("size", [MAX_REQUEST - 100, MAX_REQUEST + 1, 3 * MAX_REQUEST])
async def test_a_line_of_a_megabyte_is_refused_in_words(size: int, tmp_path: Path) -> None:
    server = ControlServer(tmp_path / "c.sock", a_registry())
    await server.start()
    try:
        try:
            (answer,) = await ask(server.path, b"x" * size)
        except ConnectionError:
            assert size > MAX_REQUEST  # it hung up while we still wrote
        else:
            assert "at most" in answer["error"]["text"] or "no request" in answer["error"]["text"]
        (answer,) = await ask(server.path, b'{"verb": "orders"}')
        assert "ok" in answer
    finally:
        await server.close()


KEYS = st.sampled_from(
    [
        "server",
        "hostname",
        "listener",
        "address",
        "vmta",
        "default",
        "hosts",
        "retry",
        "accounting",
        "dns",
    ]
)
SCALARS = st.sampled_from(
    [
        "1",
        "-1",
        "1e999",
        "true",
        '""',
        '"x"',
        '"10m"',
        "[]",
        "[1]",
        "{}",
        "nan",
        "1979-05-27",
        "''",
        '"\\u0000"',
    ]
)
TOML = st.lists(
    st.builds("[{}]\n".format, KEYS)
    | st.builds("[[{}]]\n".format, KEYS)
    | st.builds("[{}.{}]\n".format, KEYS, KEYS)
    | st.builds("{} = {}\n".format, KEYS, SCALARS)
    | st.text(string.printable, max_size=20),
    max_size=8,
).map("".join)


@settings(max_examples=150, suppress_health_check=SLOW)
@given(text=TOML)
def test_whatever_the_configuration_says_it_is_taken_or_every_mistake_is_named(text: str) -> None:
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "sluice.toml"
        path.write_bytes(text.encode())
        try:
            load(path)
        except ConfigError as error:
            assert error.problems
            assert all(problem.text for problem in error.problems)
