"""`stack-agent` itself, with a real engine and a real manager on one host."""

from __future__ import annotations

import json
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterator
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import msgspec
import pytest

from agent.main import only_agent_of, read_settings
from cluster.errors import Conflict, UserError
from cluster.model.network import NetworkSpec
from cluster.model.service import NetworkAttachment, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.views import DeployRequest
from tests.agent.builders import a_container
from tests.engines import ADDRESS, EngineHost, Program
from tests.patience import PATIENCE

BIN = Path(sys.prefix) / "bin"
CLOCK = Path(__file__).parents[1] / "chaos" / "clock"
IPV6 = "fd79::1"
pytestmark = [pytest.mark.engine, pytest.mark.etcd, pytest.mark.root]


class Site:
    """A host with an engine, a manager at `address` with an etcd of its own, and room for agents.

    Sites of one host have a `folder` each.
    """

    def __init__(self, host: EngineHost, address: str = ADDRESS, folder: str = "", etcd_port: int = 2379) -> None:
        self.host, self.address, self.home, self.etcd_port = host, address, host.home / folder, etcd_port
        self.socket = self.home / "manager.sock"
        self.place = f"[{address}]:2377" if ":" in address else f"{address}:2377"

    def start_manager(self) -> Program:
        program = self.host.start(
            str(BIN / "stack-manager"), "--name", "m1", "--data-dir", str(self.home / "manager"),
            "--listen", self.place, "--advertise", self.place, "--socket", str(self.socket),
            "--etcd-port", str(self.etcd_port),
        )  # fmt: skip
        eventually(lambda: self.socket.exists() and self.ready(), "the manager does not start")
        return program

    def start_agent(
        self, *more: str, data: str = "agent", manager: str = "", environment: dict[str, str] | None = None
    ) -> Program:
        given = ("env", *(f"{name}={value}" for name, value in environment.items())) if environment else ()
        return self.host.start(
            *given, str(BIN / "stack-agent"), "--name", "n1", "--data-dir", str(self.home / data),
            "--manager", manager or f"https://{self.place}", "--advertise", self.address,
            "--engine", str(self.host.socket), *more,
        )  # fmt: skip

    def ready(self) -> bool:
        try:
            return bool(self.ask("GET", "/v1/cluster"))
        except (OSError, AssertionError):
            return False

    def ask(self, method: str, path: str, body: bytes | None = None) -> Any:
        connection = _Local(self.socket)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
            assert answer.status < 400, text
            lines = [json.loads(line) for line in text.splitlines()]
            return lines[0] if answer.getheader("Content-Type", "").startswith("application/json") else lines
        finally:
            connection.close()

    def token(self) -> str:
        return str(self.ask("GET", "/v1/join-tokens")["worker"])

    def node(self) -> dict[str, Any]:
        nodes = self.ask("GET", "/v1/nodes")
        return nodes[0] if nodes else {"status": "none"}

    def left_over(self) -> list[str]:
        """What there is of sandboxes, networks, links and files of tasks."""
        files = self.home / "agent" / "tasks"
        listed = self.host.run("ls", "/run/netns", "/run/stackyard/netns", str(files)).split()
        return [name for name in listed if not name.startswith("/")]

    def running(self) -> list[dict[str, Any]]:
        return [t for t in self.ask("GET", "/v1/tasks") if t["state"] == "running"]


class _Local(HTTPConnection):
    def __init__(self, path: Path) -> None:
        super().__init__("manager", timeout=PATIENCE)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def eventually(what: Callable[[], object], why: str) -> None:
    end = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < end, why
        time.sleep(0.05)


@pytest.fixture(scope="module")
def site() -> Iterator[Site]:
    host = EngineHost("20.10", "agent-program")
    try:
        host.boot()
        host.start_engine()
        host.load_box()
        site = Site(host)
        site.start_manager()
        yield site
    finally:
        host.end()


@pytest.fixture
def by_ipv6(site: Site) -> Iterator[Site]:
    """The same host with no address but an IPv6 one, and with a cluster apart."""
    other = Site(site.host, IPV6, "by-ipv6", etcd_port=12379)
    other.home.mkdir()
    site.host.run("ip", "-4", "addr", "flush", "dev", "under0")
    site.host.run("ip", "addr", "add", f"{IPV6}/64", "dev", "under0", "nodad")
    manager = other.start_manager()
    yield other
    manager.send(signal.SIGTERM)
    manager.wait()
    site.host.run("ip", "addr", "add", f"{ADDRESS}/24", "dev", "under0")


def test_the_way_of_an_agent_from_its_joining_to_its_end(site: Site) -> None:
    agent = site.start_agent("--token", site.token())
    eventually(lambda: site.node()["status"] == "ready", "the node is not ready")
    node = site.node()
    assert (node["engine_version"][:5], node["address"], node["conditions"]) == ("20.10", ADDRESS, {})

    command = ("sh", "-c", "echo hello; echo trouble >&2; exec sleep 100000")
    service = ServiceSpec("web", a_container(command=command), (NetworkAttachment("default", ("web",)),), replicas=3)
    spec = StackSpec("shop", {"web": service}, {"default": NetworkSpec("default", "shop_default")})
    site.ask("PUT", "/v1/stacks/shop", msgspec.json.encode(DeployRequest(spec, "operation-1")))
    eventually(lambda: len(site.running()) == 3, "the tasks do not run")
    containers = {task["container"] for task in site.running()}

    lines = site.ask("GET", "/v1/logs?of=shop_web&tail=10")
    assert (
        sorted((line["stream"], line["line"]) for line in lines if not line["end"])
        == [("stderr", "trouble")] * 3 + [("stdout", "hello")] * 3
    )

    agent.send(signal.SIGKILL)
    agent.wait()
    agent = site.start_agent()  # no token this time
    eventually(lambda: agent.said().count("session ") >= 2, "the agent does not come back")
    eventually(lambda: site.node()["status"] == "ready", "the node is not ready again")
    assert {task["container"] for task in site.running()} == containers
    assert len(site.host.containers()) == 3

    other = site.start_agent()
    assert other.wait() == 2
    assert "another agent works with" in other.said()

    agent.send(signal.SIGTERM)
    assert agent.wait() == 0
    assert len([c for c in site.host.containers() if c["State"] == "running"]) == 3, "containers outlive their agent"
    agent = site.start_agent()
    site.ask("DELETE", "/v1/stacks/shop")
    eventually(lambda: not site.ask("GET", "/v1/stacks"), "the stack does not go")
    eventually(lambda: not site.host.containers(), "containers are left")
    eventually(lambda: site.left_over() == [], "traces are left")
    assert "Traceback" not in agent.said()
    agent.send(signal.SIGTERM)
    assert agent.wait() == 0


def test_a_clock_that_is_far_off_is_told_and_does_no_harm(site: Site) -> None:
    shift = site.host.home / "clock"
    shift.write_text("0")
    agent = site.start_agent(
        "--token", site.token(), environment={"PYTHONPATH": str(CLOCK), "STACKYARD_CHAOS_CLOCK": str(shift)}
    )
    eventually(lambda: site.node()["status"] == "ready" and not site.node()["conditions"], "the node is not ready")
    service = ServiceSpec("web", a_container(), replicas=2)
    site.ask("PUT", "/v1/stacks/late", msgspec.json.encode(DeployRequest(StackSpec("late", {"web": service}), "op-1")))
    eventually(lambda: len(site.running()) == 2, "the tasks do not run")
    before = {task["container"] for task in site.running()}
    for seconds, told in (("3600", "60 min ahead of"), ("-120", "120 s behind")):
        shift.write_text(seconds)
        eventually(lambda words=told: words in site.node()["conditions"].get("clock", ""), told)  # type: ignore[misc]
        assert site.node()["status"] == "ready"
    site.ask("POST", "/v1/stacks/late/scale", b'{"replicas": {"web": 3}, "operation": "op-2"}')
    eventually(lambda: len(site.running()) == 3, "what is asked for meanwhile does not run")
    shift.write_text("0")
    eventually(lambda: not site.node()["conditions"], "it is not taken to be well again")
    assert {task["container"] for task in site.running()} > before
    site.ask("DELETE", "/v1/stacks/late")
    eventually(lambda: not site.host.containers(), "containers are left")
    agent.send(signal.SIGTERM)
    assert agent.wait() == 0


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        pytest.param([], 2, "has not joined a cluster", id="no token"),
        pytest.param(["--token", "nonsense"], 2, "that is no join token", id="no token at all"),
        pytest.param(["--token", f"SYTKN-1-{'0' * 64}-{'a' * 32}"], 2, "not the one that the join token names",
                     id="a token of another cluster"),
    ],
)  # fmt: skip
def test_an_agent_that_cannot_join_says_why_and_ends(site: Site, options: list[str], code: int, words: str) -> None:
    agent = site.start_agent(*options, data="stranger")
    assert agent.wait() == code
    said = agent.said()
    assert words in said
    assert "Traceback" not in said


def test_a_node_that_has_only_ipv6_joins_and_runs_tasks(by_ipv6: Site) -> None:
    agent = by_ipv6.start_agent("--token", by_ipv6.token())
    eventually(lambda: by_ipv6.node()["status"] == "ready", "the node is not ready")
    node = by_ipv6.node()
    assert (node["address"], node["conditions"]) == (IPV6, {})
    service = ServiceSpec("web", a_container(command=("sleep", "100000")), (NetworkAttachment("default", ("web",)),))
    spec = StackSpec("shop", {"web": service}, {"default": NetworkSpec("default", "shop_default")})
    by_ipv6.ask("PUT", "/v1/stacks/shop", msgspec.json.encode(DeployRequest(spec, "operation-1")))
    eventually(by_ipv6.running, "the task does not run")
    by_ipv6.ask("DELETE", "/v1/stacks/shop")
    eventually(lambda: not by_ipv6.ask("GET", "/v1/stacks"), "the stack does not go")
    assert "Traceback" not in agent.said()
    agent.send(signal.SIGTERM)
    assert agent.wait() == 0


def test_an_agent_that_waits_for_its_manager_ends_when_told(site: Site) -> None:
    agent = site.start_agent("--token", site.token(), data="waits", manager="https://127.0.0.1:1")
    eventually(lambda: "no answer from the manager" in agent.said(), "it does not say that it waits")
    agent.send(signal.SIGTERM)
    assert agent.wait() == 0


def test_the_command_line_is_checked() -> None:
    given = ["--name", "n", "--data-dir", "/d", "--advertise", "10.0.0.1", "--manager"]
    settings = read_settings([*given, "https://10.0.0.1:2377/, https://10.0.0.2:2377"])
    assert settings.managers == ("https://10.0.0.1:2377", "https://10.0.0.2:2377")
    spelled = ["--name", "n", "--data-dir", "/d", "--advertise", "FD00:0::1", "--manager", "https://[fd00::2]:2377"]
    assert read_settings(spelled).advertise == "fd00::1", "as the kernel spells it"
    for wrong in ("10.0.0.1:2377", "", "http://10.0.0.1"):
        with pytest.raises(SystemExit):
            read_settings([*given, wrong])


def test_one_data_directory_is_for_one_agent(tmp_path: Path) -> None:
    with only_agent_of(tmp_path):
        with pytest.raises(Conflict), only_agent_of(tmp_path):
            pass
    with only_agent_of(tmp_path):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot be used"), only_agent_of(tmp_path / "file"):
        pass
