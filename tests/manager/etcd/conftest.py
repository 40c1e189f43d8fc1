"""Real etcd for these tests, each run against 3.4 and 3.5; the servers are shared, the keys are each test's own."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Iterator

import pytest

from manager.etcd import Etcd
from tests.etcd_server import Servers, running


@pytest.fixture(scope="session", params=["3.4", "3.5"], ids=["etcd 3.4", "etcd 3.5"])
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="session")
def one_member(version: str) -> Iterator[Servers]:
    with running(version) as servers:
        yield servers


@pytest.fixture(scope="session")
def three_members(version: str) -> Iterator[Servers]:
    with running(version, 3) as servers:
        yield servers


@pytest.fixture
def server(one_member: Servers) -> Servers:
    """One member, up and thawed whatever the test before did to it."""
    one_member.restore()
    return one_member


@pytest.fixture
def cluster(three_members: Servers) -> Servers:
    """Three members, up and thawed whatever the test before did to them."""
    three_members.restore()
    return three_members


@pytest.fixture
def prefix() -> str:
    return f"/stackyard/test/{uuid.uuid4().hex}/"


@pytest.fixture
async def etcd(server: Servers) -> AsyncIterator[Etcd]:
    async with Etcd.connect(server.endpoints) as client:
        yield client
