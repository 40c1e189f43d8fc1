"""Containers that were started by hand, on whichever node, as members of a network; and the ranges of addresses."""

from __future__ import annotations

import ipaddress
import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.agent.network.traffic import echoing, say, talking
from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

ASK = """
import json, socket, sys, urllib.request
found = {name: sorted({entry[4][0] for entry in socket.getaddrinfo(name, 80)}) for name in sys.argv[1:]}
answers = [json.load(urllib.request.urlopen("http://web:8000/", timeout=60)) for _ in range(12)]
print(json.dumps([found, sorted({a["host"] for a in answers}), sorted({a["client"] for a in answers})]))
"""
LOOK_UP = "import socket, sys; print(socket.gethostbyname(sys.argv[1]))"


@contextmanager
def by_hand(cluster: Cluster, node: str, name: str, *options: str) -> Iterator[str]:
    """Give the id of a container that somebody starts on a node."""
    words = ("run", "-d", "--name", name, "--dns", "127.0.0.11", *options, "stackyard-probe:1")
    try:
        yield cluster.docker(node, *words).strip()
    finally:
        cluster.stack("lab", "exec", node, "--", "docker", "rm", "-f", name, code=None)


def attached(cluster: Cluster, network: str, container: str) -> dict[str, Any]:
    """What is told of a container in a network; empty when nothing is."""
    [found] = [one for one in cluster.listing("network", "ls") if one["name"] == network]
    return next((dict(one) for one in found["attachments"] if one["name"] == container), {})


def namespace(cluster: Cluster, node: str, container: str) -> Path:
    init = cluster.lab.node(node).host.init()
    assert init is not None
    return Path(f"/proc/{init.pid}/root/run/netns/sy-hand-{container[:20]}")


def inside(where: Path, *words: str) -> str:
    return subprocess.run(["nsenter", f"--net={where}", *words], capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("options", [(), ("--network", "none")], ids=["bridge", "none"])
def test_a_container_that_was_started_by_hand_is_a_member_of_the_network(
    cluster: Cluster, probe: str, options: tuple[str, ...]
) -> None:
    cluster.deploy("attach.yml", probe)
    network = f"{probe}_net"
    webs = cluster.tasks(f"{probe}_web")
    with by_hand(cluster, "n1", "debug", *options), by_hand(cluster, "n3", "other", *options):
        for name in ("debug", "other"):
            cluster.stack("network", "attach", network, name, "--alias", f"{name}-too")
        own = attached(cluster, network, "debug")
        assert (own["state"], own["node"], own["message"]) == ("attached", "n1", "")
        [address], [others] = own["addresses"], attached(cluster, network, "other")["addresses"]

        def asked() -> Any:
            done = cluster.stack(
                "lab", "exec", "n1", "--", "docker", "exec", "debug", "python3", "-c", ASK, "debug-too", "other",
                "tasks.web", code=None,
            )  # fmt: skip
            return json.loads(done.stdout) if done.returncode == 0 else None

        names, hosts, clients = eventually(asked, "names are known on that node")
        assert (names["debug-too"], names["other"], len(names["tasks.web"])) == ([address], [others], 2)
        assert hosts == sorted(task["id"][:12] for task in webs), "the virtual address leads to all"
        assert clients == [address]
        for task in webs:
            words = ("exec", task["container"], "python3", "-c", LOOK_UP)
            for name, expected in (("debug", address), ("other-too", others)):
                told = eventually(lambda n=name, t=task, w=words: cluster.docker(t["node"], *w, n).strip(), name)  # type: ignore[misc]
                assert told == expected


def test_it_goes_when_it_ends_comes_back_when_it_starts_and_nothing_of_it_stays(cluster: Cluster, probe: str) -> None:
    cluster.deploy("attach.yml", probe)
    network = f"{probe}_net"
    with by_hand(cluster, "n2", "debug") as container:
        cluster.stack("network", "attach", network, "debug", "--ip", "10.77.8.9")
        assert attached(cluster, network, "debug")["addresses"] == ["10.77.8.9"]
        where = namespace(cluster, "n2", container)
        cluster.docker("n2", "restart", "-t", "0", "debug")  # its namespace is a new one, perhaps of the same number
        words = ("lab", "exec", "n2", "--", "docker", "exec", "debug", "python3", "-c", LOOK_UP, "tasks.web")
        eventually(lambda: cluster.stack(*words, code=None).returncode == 0, "it finds names again")
        eventually(lambda: attached(cluster, network, "debug")["state"] == "attached", "it is told so")
        assert "10.77.8.9" in inside(where, "ip", "-4", "addr")
        refused = cluster.stack("rm", probe, code=None)
        assert refused.returncode != 0 and f"debug on n2 in {network}" in refused.stderr
        cluster.docker("n2", "kill", "debug")
        ended = eventually(
            lambda: (one := attached(cluster, network, "debug"))["state"] == "ended" and one, "its end is told"
        )
        assert isinstance(ended, dict) and ended["addresses"] == [] and "exit code 137" in ended["message"]
        assert not where.exists()
        cluster.docker("n2", "start", "debug")
        eventually(lambda: attached(cluster, network, "debug")["state"] == "attached", "it runs again")
        cluster.stack("network", "detach", network, "debug")
        eventually(lambda: not attached(cluster, network, "debug"), "it is taken off")
        assert not where.exists()
        links = inside(Path(f"/proc/{pid(cluster, 'n2', container)}/ns/net"), "ip", "-br", "link")
        assert "sy" not in links and "eth0" in links
        cluster.stack("network", "attach", network, "debug")
        cluster.docker("n2", "rm", "-f", "debug")
        eventually(lambda: attached(cluster, network, "debug")["state"] == "gone", "its removal is told")
        assert not where.exists()
    assert cluster.stack("rm", probe).returncode == 0


def pid(cluster: Cluster, node: str, container: str) -> int:
    """The container's process, as this machine numbers it."""
    own = int(cluster.docker(node, "inspect", "-f", "{{.State.Pid}}", container))
    for entry in Path("/proc").glob("[0-9]*/status"):
        try:
            text = entry.read_text()
        except OSError:
            continue
        numbers = next((line.split()[1:] for line in text.splitlines() if line.startswith("NSpid:")), [])
        if str(own) in numbers[1:] and container in (entry.parent / "cgroup").read_text():
            return int(entry.parent.name)
    raise AssertionError(f"no process {own} of container {container}")


def test_no_packet_is_lost_while_agents_start_anew_and_no_other_address_is_believed(
    cluster: Cluster, probe: str
) -> None:
    cluster.deploy("attach.yml", probe)
    network = f"{probe}_net"
    with by_hand(cluster, "n1", "one", "--network", "none") as one, by_hand(cluster, "n2", "two") as two:
        for name in ("one", "two"):
            cluster.stack("network", "attach", network, name)
        near, far = namespace(cluster, "n1", one), namespace(cluster, "n2", two)
        [here], [there] = (attached(cluster, network, name)["addresses"] for name in ("one", "two"))
        with echoing(far):
            assert say(near, there, b"from one") == b"from one"
            lost: list[int] = []
            with talking(near, there, lost):
                for node in ("n1", "n2"):
                    cluster.lab.kill(node, "agent")
                    cluster.lab.start(node, "agent")
                for name in ("one", "two"):  # only an agent that has everything again can say so
                    eventually(lambda n=name: known(cluster, network, n), "agents are back")  # type: ignore[misc]
            assert lost == []
            link = next(line.split()[0] for line in inside(near, "ip", "-br", "link").splitlines() if "sy" in line)
            link = link.partition("@")[0]
            foreign = str(ipaddress.ip_address(here) + 40)
            inside(near, "ip", "addr", "add", f"{foreign}/24", "dev", link)
            ping = ["nsenter", f"--net={near}", "ping", "-c", "3", "-W", "1", "-I", foreign, there]
            assert subprocess.run(ping, capture_output=True, check=False).returncode != 0, "it is not its address"
            assert say(near, there, b"its own") == b"its own"


def known(cluster: Cluster, network: str, container: str) -> bool:
    """Tell whether the container's node says that it is there, and is attached already."""
    return "already" in cluster.stack("network", "attach", network, container, code=None).stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("{stack}_closed", "debug"), "takes services only"),
        (("{stack}_none", "debug"), "there is no network"),
        (("{stack}_net", "nobody"), "there is no container nobody"),
        (("{stack}_net", "debug", "--node", "n9"), "there is no node n9"),
        (("{stack}_net", "debug", "--node", "n1"), "there is no container debug on node n1"),
        (("{stack}_net", "stopped"), "it does not run"),
        (("{stack}_net", "hosts"), "it has the network of its node"),
        (("{stack}_net", "debug", "--ip", "10.1.2.3"), "is in no subnet of network"),
        (("{stack}_net", "debug", "--ip", "10.77.8.1"), "is kept free"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_cannot_be_attached_is_refused_with_the_reason(
    cluster: Cluster, standing: str, words: tuple[str, ...], told: str
) -> None:
    done = cluster.stack("network", "attach", *(word.format(stack=standing) for word in words), code=None)
    assert done.returncode != 0 and told in done.stderr


@pytest.fixture(scope="module")
def standing(cluster: Cluster) -> Iterator[str]:
    """A stack with containers beside it that somebody started on n2."""
    cluster.deploy("attach.yml", "standing")
    with by_hand(cluster, "n2", "debug"), by_hand(cluster, "n2", "stopped"):
        with by_hand(cluster, "n2", "hosts", "--network", "host"):
            cluster.docker("n2", "kill", "stopped")
            yield "standing"
    cluster.stack("rm", "standing", code=None)


def test_addresses_are_given_out_of_the_range_alone(cluster: Cluster, standing: str) -> None:
    given = set()
    for task in cluster.tasks(f"{standing}_web"):
        said = cluster.docker(
            task["node"], "exec", task["container"], "python3", "-c", LOOK_UP, f"{task['service']}.{task['slot']}"
        )
        given.add(ipaddress.ip_address(said.strip()))
    assert len(given) == 2 and all(one in ipaddress.ip_network("10.77.8.128/25") for one in given)
    assert ipaddress.ip_address("10.77.8.130") not in given
