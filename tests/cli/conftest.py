"""A person at a terminal; and for those tests that need one, a manager that listens to them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.etcd_server import Servers, running
from tests.manager.managers import RunningManager, emptied, running_manager


@pytest.fixture
def person(tmp_path: Path) -> Terminal:
    folder = tmp_path / "person"
    folder.mkdir()
    return Terminal(folder)


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running("3.4") as servers:
        yield servers


@pytest.fixture
async def manager(servers: Servers, tmp_path: Path, person: Terminal) -> AsyncIterator[RunningManager]:
    servers.restore()
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        await person.know_manager(manager)
        yield manager
