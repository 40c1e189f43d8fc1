"""An agent of an older release takes over what this one has wired, and this one takes it over again."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.journal import Entry, encode
from agent.network import netlink
from agent.network.wiring import Wiring
from cluster.assignments import Assignments, VipItem
from tests.agent.network.test_wiring import ECHO_UDP, listening, serving
from tests.agent.network.underlay import (
    BACK,
    INGRESS_NETWORK,
    ROOT,
    Cluster,
    address_of,
    host,
    rows,
    wiring,
)
from tests.older import extract

pytestmark = pytest.mark.root

GOING = (netlink.RTM_DELLINK, netlink.RTM_DELADDR, netlink.RTM_DELROUTE, netlink.RTM_DELNEIGH)
VIP = "10.102.255.1"
OLDER = """
import asyncio, sys
from pathlib import Path
from agent.journal import decode
from agent.network.wiring import Wiring

async def main(name, address, journal, netns, links, home):
    items = decode(Path(journal).read_bytes()).assignments.items.values()
    wiring = Wiring(name, address, netns=Path(netns), links=Path(links), home=Path(home))
    await wiring.open()
    await wiring.apply(items)
    await wiring.audit()
    await wiring.close()

asyncio.run(main(*sys.argv[1:]))
"""
ASKING = """
import select, socket, sys
asked = lost = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    with socket.socket(type=socket.SOCK_DGRAM) as asking:
        asking.settimeout(20)
        asking.connect((sys.argv[1], int(sys.argv[2])))
        asking.send(b"x")
        try:
            asking.recv(99)
        except OSError as error:
            lost += 1
    asked += 1
    if asked == 100:
        print("up", flush=True)
print(asked, lost)
"""


@contextmanager
def asked(where: Path, address: str, port: int, lost: list[int]) -> Iterator[None]:
    """Begin one flow after the other while the block lasts, without pause; then tell how many had no answer."""
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={where}", "python3", "-c", ASKING, address]
    with subprocess.Popen([*command, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as asking:
        assert asking.stdout is not None
        asking.stdout.readline()
        yield
        said, _ = asking.communicate("enough\n", timeout=60)
        lost.append(int(said.split()[-1]))


async def test_neither_release_disturbs_what_the_other_has_wired(wirings: dict[str, Wiring], tmp_path: Path) -> None:
    extract(tmp_path / "older")
    cluster = Cluster()
    cluster.vips.append(VipItem(BACK.id, "uid", "stack", "web", (VIP,)))
    tasks = [cluster.task(n, "h1", BACK, INGRESS_NETWORK) for n in range(1, 7)]
    cluster.task(7, "h2", BACK, INGRESS_NETWORK)
    cluster.unready |= {*cluster.tasks} - {tasks[0]}
    cluster.publish(8080, 80, protocol="udp")
    await cluster.start(wirings)
    server, client = (wirings["h1"].namespace(task) for task in tasks[:2])
    places = (host("h1"), server, client, ROOT / "h1" / f"sn-{BACK.id}", ROOT / "h1" / "sn-ingress")
    (tmp_path / "journal").write_bytes(
        encode(Entry("", assignments=Assignments(1, 1, {item.ident: item for item in cluster.items("h1")})))
    )

    def older() -> None:
        place = tmp_path / "journal", ROOT / "h1", ROOT / "h1-links", host("h1")
        subprocess.run(
            [sys.executable, "-c", OLDER, "h1", address_of("h1"), *map(str, place)],
            env={**os.environ, "PYTHONPATH": str(tmp_path / "older")}, cwd=tmp_path, check=True,
        )  # fmt: skip

    async def newer() -> None:
        wirings["h1"] = wiring("h1")
        await wirings["h1"].open()
        await wirings["h1"].apply(cluster.items("h1"))
        await wirings["h1"].audit()

    before, lost = [rows(place) for place in places], list[int]()
    with (
        serving(server, 80, "one", ECHO_UDP),
        asked(client, VIP, 80, lost),
        asked(host("client"), address_of("h1"), 8080, lost),
    ):
        with listening(*places) as heard:
            for _ in range(5):
                await wirings["h1"].close()
                older()
                await newer()
            gone = [(kind, body) for kind, body in heard() if kind in GOING]  # that links came to run may still be told
            assert gone == []
    assert [rows(place) for place in places] == before
    assert lost == [0, 0]
