"""The sessions of one manager on a real etcd, served over real TLS, without a leader: tests write its records."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.etcd_server import Servers, running
from tests.manager.managers import emptied
from tests.manager.sessions.stage import Stage, staged


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    with running("3.4") as servers:
        yield servers


@pytest.fixture
async def stage(servers: Servers, tmp_path: Path) -> AsyncIterator[Stage]:
    servers.restore()
    await emptied(servers)
    async with staged(servers, tmp_path) as stage:
        yield stage
