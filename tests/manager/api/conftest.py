"""A manager for each test, on an etcd that all of them share."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.etcd_server import Servers, running
from tests.manager.managers import Client, RunningManager, emptied, running_manager


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running("3.4") as servers:
        yield servers


@pytest.fixture
async def manager(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningManager]:
    servers.restore()
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        yield manager


@pytest.fixture
async def root(manager: RunningManager) -> Client:
    return manager.local()
