"""What the modules of integration tests share: one receiving host and one name server for each module that asks for it."""

from collections.abc import Iterator

import pytest

from tests.support.host import Host
from tests.support.names import Names


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture(scope="module")
def names() -> Iterator[Names]:
    with Names() as names:
        yield names
