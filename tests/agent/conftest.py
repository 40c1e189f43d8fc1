from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from tests.agent.node import Node, running
from tests.engines import EngineHost


@pytest.fixture(
    scope="module",
    params=[pytest.param(v, marks=[pytest.mark.engine, pytest.mark.root]) for v in ("20.10", "26.1")],
)
def host(request: pytest.FixtureRequest) -> Iterator[EngineHost]:
    """A host with an engine of each generation; what tests leave on it is theirs to see to."""
    host = EngineHost(request.param, f"agent-{request.param}")
    try:
        host.boot()
        host.start_engine()
        host.load_box()
        host.start_registry()
        yield host
    finally:
        host.end()


@pytest.fixture
async def node(host: EngineHost) -> AsyncIterator[Node]:
    """An agent without session on that host; at the end nothing of it may be left."""
    async with running(host) as node:
        yield node
        await node.leave_nothing()
