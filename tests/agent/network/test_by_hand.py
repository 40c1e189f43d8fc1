"""Namespaces that somebody else made, as members of networks: what is put into them, and what stays afterwards."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.network.wiring import Wiring
from cluster.assignments import AttachmentItem, Item, PeerItem
from cluster.errors import NotFound, StackyardError
from cluster.model.attachment import sandbox_of
from cluster.model.network import Endpoint
from tests.agent.network.underlay import BACK, FRONT, Cluster, address_of, endpoint, inside, reaches

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]
CONTAINER = "c0ffee" * 10
SANDBOX = sandbox_of(CONTAINER)


class WithOne(Cluster):
    """Tells of a container on h1 that is attached to some networks."""

    def __init__(self, *endpoints: Endpoint) -> None:
        super().__init__()
        self.endpoints = endpoints

    def items(self, node: str) -> list[Item]:
        items = super().items(node)
        for at in self.endpoints:
            ident = f"{at.network}-{SANDBOX}"
            items.append(PeerItem(at.network, ident, "h1", address_of("h1"), at.addresses, at.mac, True))
            if node == "h1":
                items.append(AttachmentItem(ident, at.network, "debug", CONTAINER, at))
        return items


@contextmanager
def running() -> Iterator[int]:
    """A process in a namespace of its own."""
    words = ["setpriv", "--pdeathsig", "KILL", "unshare", "--net", "sh", "-c", "ip link set lo up; echo; exec cat"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield process.pid
        finally:
            process.kill()


def links(where: Path) -> list[str]:
    return [line.split()[0].partition("@")[0] for line in inside(where, "ip", "-br", "link").splitlines()]


async def test_it_reaches_tasks_and_is_left_as_it_was_found(wirings: Wirings) -> None:
    back, front = endpoint(BACK, 9), endpoint(FRONT, 9)
    cluster = WithOne(back, front)
    there = cluster.task(1, "h2", BACK, FRONT)
    await cluster.start(wirings)
    with running() as pid:
        where = Path(f"/proc/{pid}/ns/net")
        assert await wirings["h1"].attach(SANDBOX, pid, [back, front])
        for address in (a for at in cluster.tasks[there][1] for a in at.addresses):
            assert reaches(where, address), address
            own = back if address in cluster.tasks[there][1][0].addresses else front
        assert reaches(wirings["h2"].namespace(there), own.addresses[0])
        assert "table inet stackyard" in inside(where, "nft", "list", "tables")
        assert not await wirings["h1"].attach(SANDBOX, pid, [back, front]), "nothing is to be done"
        assert (wirings["h1"].sandboxes(), wirings["h1"].attached()) == (frozenset(), frozenset({SANDBOX}))

        await wirings["h1"].attach(SANDBOX, pid, [front])
        assert links(where) == ["lo", f"sy{FRONT.vni}"]
        inside(where, "ip", "link", "del", f"sy{FRONT.vni}")
        await wirings["h1"].audit()
        assert reaches(where, cluster.tasks[there][1][1].addresses[0]), "it is mended"

        await wirings["h1"].release(SANDBOX)
        assert links(where) == ["lo"] and inside(where, "nft", "list", "tables") == ""
        assert not wirings["h1"].attached()


async def test_another_agent_finds_it_again_and_another_process_takes_its_place(wirings: Wirings) -> None:
    front = endpoint(FRONT, 9)
    cluster = WithOne(front)
    there = cluster.tasks[cluster.task(1, "h2", FRONT)][1][0].addresses[0]
    await cluster.start(wirings)
    with running() as first, running() as second:
        await wirings["h1"].attach(SANDBOX, first, [front])
        await wirings["h1"].apply(cluster.items("h1"))
        assert await wirings["h1"].attach(SANDBOX, second, [front]), "the container was started again"
        assert links(Path(f"/proc/{first}/ns/net")) == ["lo"]
        assert reaches(Path(f"/proc/{second}/ns/net"), there)


async def test_what_cannot_be_wired_is_refused(wirings: Wirings) -> None:
    cluster = WithOne(endpoint(FRONT, 9))
    await cluster.start(wirings)
    with pytest.raises(NotFound):
        await wirings["h1"].attach(SANDBOX, 2**22 + 1, cluster.endpoints)
    with pytest.raises(StackyardError, match="has not been told of"):
        await wirings["h1"].attach(SANDBOX, os.getpid(), [Endpoint("other", ("10.9.0.4",))])
    assert not wirings["h1"].attached()
