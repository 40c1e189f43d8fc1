"""Encrypted networks over hosts: what passes between them, what comes in clear, and what agents do meanwhile."""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from agent.network.wireguard import PORTS
from agent.network.wireguard_go import PROGRAM
from tests.agent.network.test_wiring import socket_in
from tests.agent.network.traffic import echoing, forged, say, talking, tapped
from tests.integration.conftest import Cluster, eventually
from tests.patience import PATIENCE

pytestmark = [
    pytest.mark.lab,
    pytest.mark.root,
    pytest.mark.skipif(not shutil.which(PROGRAM), reason=f"NOTHING OF ENCRYPTED NETWORKS IS TESTED: no {PROGRAM} here"),
]


class Site:
    """The stack of `encrypted.yml`: a task on n1, another on n2."""

    def __init__(self, cluster: Cluster, stack: str) -> None:
        self._cluster = cluster
        cluster.deploy("encrypted.yml", stack)
        self.left, self.right = (self._namespace(f"{stack}_{side}") for side in ("left", "right"))
        networks = {network["name"]: network for network in cluster.listing("network", "ls")}
        self.open_vni, self.safe_vni = (networks[f"{stack}_{name}"]["vni"] for name in ("open", "safe"))

    def _namespace(self, service: str) -> Path:
        [task] = self._cluster.tasks(service)
        init = self._cluster.lab.node(task["node"]).host.init()
        assert init is not None
        return Path(f"/proc/{init.pid}/root/run/netns/sy-{task['id']}")


def address(where: Path, link: str) -> str:
    """The address in a network: `eth0` is in the open one, `eth1` in the encrypted one."""
    shown = subprocess.run(
        ["nsenter", f"--net={where}", "ip", "-4", "-o", "addr", "show", link],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    found = re.search(r"inet ([0-9.]+)/", shown.stdout)
    assert found is not None, shown.stdout
    return found[1]


def test_nobody_reads_it_on_the_way_and_nothing_in_clear_is_believed(cluster: Cluster, probe: str) -> None:
    site = Site(cluster, probe)
    layout = cluster.lab.layout
    with echoing(site.right), tapped(layout.namespace_path("switch")) as heard:
        assert say(site.left, address(site.right, "eth0"), b"said for all to hear") == b"said for all to hear"
        assert say(site.left, address(site.right, "eth1"), b"said in confidence") == b"said in confidence"
        frames = heard()
    assert any(b"said for all to hear" in frame for frame in frames)
    assert not any(b"confidence" in frame for frame in frames)

    ends = [(address(site.left, link), address(site.right, link)) for link in ("eth0", "eth1")]
    (open_left, open_right), (safe_left, safe_right) = ends
    container = socket_in(site.right, socket.SOCK_DGRAM)
    with container, socket_in(layout.namespace_path("n3"), socket.SOCK_DGRAM) as attacker:
        container.bind(("", 7000))
        container.settimeout(PATIENCE)
        for port in (4789, *PORTS):
            attacker.sendto(forged(site.safe_vni, safe_left, safe_right, b"forged"), (layout.node("n2").address, port))
        attacker.sendto(forged(site.open_vni, open_left, open_right, b"clear"), (layout.node("n2").address, 4789))
        assert container.recv(99) == b"clear"
        container.setblocking(False)
        with pytest.raises(BlockingIOError):
            container.recv(99)


def test_nothing_is_lost_while_agents_restart_and_keys_are_exchanged(cluster: Cluster, probe: str) -> None:
    site, lab = Site(cluster, probe), cluster.lab
    file = lab.node("n1").layout.data_dir / "agent" / "tunnel-keys.json"
    [before] = json.loads(file.read_text())["keys"]
    lost: list[int] = []
    with echoing(site.right), talking(site.left, address(site.right, "eth1"), lost):
        for node in ("n2", "n1"):
            lab.kill(node, "agent")
            lab.start(node, "agent")
        lab.stop("n1", "agent")
        file.write_text(json.dumps({"schema": 1, "keys": [before | {"made_at": before["made_at"] - 24 * 3600}]}))
        lab.start("n1", "agent")
        eventually(
            lambda: json.loads(file.read_text())["keys"][0]["key"]["public"] != before["key"]["public"],
            "the new key is not used", within=PATIENCE,
        )  # fmt: skip
        _, old = json.loads(file.read_text())["keys"]
        assert old["key"] == before["key"]
        told = lab.exec("n2", ["ip", "netns", "exec", "sw-tunnels", "ip", "-6", "route"])
        assert len([line for line in told.stdout.splitlines() if "proto static" in line]) >= 2
    assert lost == []


def test_a_host_that_cannot_encrypt_gets_none_of_it(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    lab = cluster.lab
    file = tmp_path / "compose.yml"
    file.write_text(
        "services: {web: {image: 'stackyard-probe:1', networks: [safe], deploy: {placement: {constraints: "
        "['node.hostname == n3']}}}}\nnetworks: {safe: {driver_opts: {encrypted: 'true'}}}\n"
    )
    program = shutil.which(PROGRAM)
    assert program is not None
    hidden = lab.exec("n3", ["mount", "--bind", "/dev/null", program])
    assert hidden.returncode == 0, hidden.stderr
    try:
        lab.kill("n3", "agent")
        lab.start("n3", "agent")
        cluster.stack("deploy", "--detach", "-f", str(file), probe)
        eventually(
            lambda: f"there is no {PROGRAM} in PATH" in cluster.stack("explain", f"{probe}_web").stdout,
            "the reason is not told",
            within=PATIENCE,
        )
        told = cluster.stack("explain", f"{probe}_web").stdout
        assert "cannot encrypt network" in told and "wireguard" in told
        assert cluster.tasks(probe) == []
    finally:
        lab.exec("n3", ["umount", program])
    eventually(lambda: cluster.tasks(probe), "it does not run once the host can encrypt", within=PATIENCE)
