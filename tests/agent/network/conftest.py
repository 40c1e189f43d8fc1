from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from agent.network.wiring import Wiring
from tests.agent.network import underlay


@pytest.fixture
def hosts() -> Iterator[None]:
    with underlay.underlay():
        yield


@pytest.fixture
async def wirings(hosts: None) -> AsyncIterator[dict[str, Wiring]]:
    opened: dict[str, Wiring] = {}
    try:
        for name in ("h1", "h2", "h3"):
            opened[name] = underlay.wiring(name)
            await opened[name].open()
        yield opened
    finally:
        for each in opened.values():
            await each.close()
