"""What each listing looks like on terminals of 80 and of 200 columns, as files that people have looked at.

The real command runs at a real pseudo-terminal, and asks a server that answers always the same. STACKYARD_GOLDEN=write
has the files written anew, to be looked at before they are committed.
"""

from __future__ import annotations

import fcntl
import itertools
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from socketserver import ThreadingMixIn, UnixStreamServer
from typing import Any
from urllib.parse import urlsplit

import msgspec
import pytest

from cli.text import columns_of
from cluster.events import ClusterEvent
from cluster.membership import TokenView
from cluster.model.node import Availability, NodeStatus
from cluster.model.service import PortSpec, ServiceMode
from cluster.model.task import Desired, TaskState
from cluster.people import AuditEntry, UserView
from cluster.plans import DiffView, FieldChange, ItemChange, PlanView, TaskStep
from cluster.usage import Counters, DiskView, NodeDisk, Stored, TaskUsage, UsageView
from cluster.views import (
    AttachmentView,
    Explanation,
    ExternalView,
    MemberView,
    MoveView,
    NetworkDetail,
    NetworkView,
    NodeFit,
    NodeView,
    ProgramView,
    RebalanceView,
    RevisionView,
    ServiceView,
    StackView,
    TaskView,
    Trouble,
    UpgradeView,
    VolumeView,
)
from tests.cli.terminal import Terminal

GOLDEN = Path(__file__).parent / "golden"
WIDTHS = (80, 200)
DAY = 86400.0
THEN = 1_769_860_800.0  # 2026-01-31 12:00:00 UTC
IMAGE = "registry.example.com/team/storefront:2026.01.31"
LONG = "the-storefront-of-the-european-shop-eu01"
PINNED = f"registry.example.com:5000/team/storefront@sha256:{'9f2c' * 16}"
WIDE = "FATAL: データベースに接続できません (db.example.com:5432)"
NO_FIT = "no node fits: 2 of 3 have too little memory (reserved 3.5G of 4.0G), 1 of 3 does not match zone == b"


def ago(days: float) -> float:
    """So long ago that it is told in days, the same ones for a while."""
    return time.time() - days * DAY - DAY / 2


def task(name: str, slot: int, node: str, state: TaskState, **more: Any) -> TaskView:
    ident = f"{slot}f3a9c07d51e{slot}8b64c2d0e7a1{slot}"
    stack, _, service = name.partition("_")
    image = more.pop("image", IMAGE)
    return TaskView(
        ident, f"{name}.{slot}", stack, service, slot, image, node, Desired.RUNNING, state, ago(3), **more
    )  # fmt: skip


def tasks() -> list[TaskView]:
    return [
        task("shop_web", 1, "n1", TaskState.RUNNING),
        task("shop_web", 2, "worker-eu-central-7", TaskState.RUNNING, restarts=2),
        task("shop_web", 3, "", TaskState.PENDING, message=NO_FIT),
        task("shop_db", 1, "n2", TaskState.FAILED, image="postgres:17", exit_code=1, failures=4,
             message="exited with code 1", log=("FATAL: password authentication failed",)),
        task(f"shop_{LONG}", 1, "worker-eu-central-7", TaskState.FAILED, image=PINNED, exit_code=3,
             message="exited with code 3", log=(WIDE,)),
    ]  # fmt: skip


def services() -> list[ServiceView]:
    ports = (PortSpec(80, 8080), PortSpec(443, 8443), PortSpec(53, 53, "udp", "host"))
    return [
        ServiceView("shop_web", "shop", "web", "u1", 3, IMAGE, 3, 2, 2, ports, NO_FIT),
        ServiceView("shop_db", "shop", "db", "u2", 1, "postgres:17", 1, 1, 1),
        ServiceView("shop_report", "shop", "report", "u3", 2, "report:1", 10, 2, 0, (), "", ServiceMode.REPLICATED_JOB,
                    completed=7),
        ServiceView("monitoring_agent", "monitoring", "agent", "u4", 1, "agent:5", 12, 12, 12, (), "",
                    ServiceMode.GLOBAL),
        ServiceView(f"shop_{LONG}", "shop", LONG, "u5", 1, PINNED, 2, 1, 1, (), f"exited with code 3, it said: {WIDE}"),
    ]  # fmt: skip


def nodes() -> list[NodeView]:
    def node(name: str, status: NodeStatus, **more: Any) -> NodeView:
        address = more.pop("address", "10.77.0.11")
        return NodeView(name, name, more.pop("role", "worker"), status, more.pop("availability", Availability.ACTIVE),
                        address, "26.1.5", "0.1.0", more.pop("tasks", 12), ago(3), **more)  # fmt: skip

    silence = "neither its agent nor its address answers"
    return [
        node("n1", NodeStatus.READY, role="manager"),
        node("worker-eu-central-7", NodeStatus.READY, address="2001:db8:77::17", availability=Availability.DRAIN,
             conditions={"clock": "its clock is 4.2 s ahead of the cluster's"}),
        node("n3", NodeStatus.DOWN, reason=silence, tasks=0),
    ]  # fmt: skip


def networks() -> list[NetworkView]:
    debug = AttachmentView("shop_default", "n1", "c0ffee", "debug", ("10.128.0.9",), ("debug",), "attached")
    return [
        NetworkView("i1", "ingress", "", 4096, ("10.192.0.0/16",), False, 5),
        NetworkView("i2", "shop_default", "shop", 4097, ("10.128.0.0/20", "fd12:3456:789a::/64"), False, 14,
                    True, True, (debug,)),
        NetworkView("i3", "monitoring_internal-metrics", "monitoring", 4098, ("10.128.16.0/20",), True, 120),
    ]  # fmt: skip


def network() -> NetworkDetail:
    members = (
        MemberView("service", f"shop_{LONG}", "", ("10.128.0.2", "fd12:3456:789a::2")),
        MemberView("task", f"shop_{LONG}.1", "worker-eu-central-7", ("10.128.0.7", "fd12:3456:789a::7")),
    )
    return NetworkDetail(networks()[1], (), None, members)


def volumes() -> list[VolumeView]:
    waits = "its removal waits for node n3, which is down"
    return [
        VolumeView("shop_data", "n2", "shop", ("shop_db",), ago(40)),
        VolumeView("monitoring_timeseries", "worker-eu-central-7", "monitoring", ("monitoring_db", "monitoring_ui"),
                   ago(3)),
        VolumeView("old_data", "n3", "", (), ago(300), True, waits),
    ]  # fmt: skip


def secrets() -> list[ExternalView]:
    return [
        ExternalView("secret", "db-password", "9f2c" * 16, 24, ago(40), "ann", {"team": "blue"}, ("shop_db",)),
        ExternalView("secret", "tls-key-of-the-storefront", "1b2c" * 16, 3272, ago(3), "root", {},
                     ("shop_web", "shop_api", "shop_admin"), ("shop", "team-*")),
        ExternalView("secret", "shop_pw", "7d1e" * 16, 9, ago(3), "", {}, ("shop_db",), (), "shop"),
    ]  # fmt: skip


def revisions() -> list[RevisionView]:
    image = f"web: image {IMAGE.replace('31', '30')} -> {IMAGE}"
    return [
        RevisionView("shop", 12, "ann", "the new cart", ago(3), {}, {}, True, (image, "web: replicas 3 -> 5"), True),
        RevisionView("shop", 11, "deploy-bot", "", ago(4), {}, {}, False, ("db: environment",)),
        RevisionView("shop", 10, "ann", "", ago(40), {}, {}),
    ]


def events() -> list[ClusterEvent]:
    where: dict[str, Any] = {"stack": "shop", "service": "shop_web"}
    return [
        ClusterEvent(1, THEN, "stack", "deploy", "s", "shop", "shop", message="revision 12 by ann: the new cart"),
        ClusterEvent(2, THEN + 1, "task", "start", "t", "shop_web.1", **where, node="worker-eu-central-7"),
        ClusterEvent(3, THEN + 2, "task", "failed", "t", "shop_web.1", **where, node="n1", exit_code=137,
                     message="out of memory: it used more than its limit, it said: Killed while building the index"),
        ClusterEvent(4, THEN + 2, "task", "failed", "t", f"shop_{LONG}.1", **where, node="worker-eu-central-7",
                     message=f"exited with code 3, it said: {WIDE}", exit_code=3),
        ClusterEvent(4, THEN + 3, "node", "down", "n3", "n3", node="n3", message="neither its agent nor it answers"),
        ClusterEvent(4, THEN + 3, "stream", "end"),
    ]  # fmt: skip


def usage() -> Iterator[UsageView]:
    """One look after the other, a second between two."""
    return map(_usage, itertools.count())


def _usage(second: int) -> UsageView:
    def used(name: str, node: str, cpu: int, memory: int, *, host: bool = False) -> TaskUsage:
        moved = None if host else second * 92_345
        counters = Counters(
            name, 100.0 + second, second * cpu, memory, 2**31, moved, moved, 0, second * 12_000_000, 7
        )  # fmt: skip
        stack, _, rest = name.partition("_")
        return TaskUsage(name, stack, rest.partition(".")[0], 1, node, counters)

    tasks = (
        used("shop_db.1", "n2", 4_000_000, 22_300_000),
        used("shop_web.1", "worker-eu-central-7", 1_931_000_000, 1_300_000_000),
        used("monitoring_agent.3", "n1", 0, 9_000_000, host=True),
    )
    return UsageView(tasks, ("node n3: it is down",))


def disk() -> DiskView:
    def stored(scale: int) -> tuple[Stored, ...]:
        return (Stored("images", 12, 4, 3 * scale * 2**30, 2**30), Stored("containers", 6, 5, 1_200_000, 0),
                Stored("volumes", 3, 2, 430_000_000, 12_000_000), Stored("build cache", 0, 0, 0, 0))  # fmt: skip

    disks = (NodeDisk("n1", stored(1)), NodeDisk("worker-eu-central-7", stored(40)))
    return DiskView(disks, ("node n3: it is down",))


def plan() -> PlanView:
    image = FieldChange("image", IMAGE.replace("31", "30"), IMAGE)
    return PlanView(
        "shop", 11, True,
        (ItemChange("service", "web", "change", (image, FieldChange("deploy.replicas", "3", "5")), "3 tasks restart"),
         ItemChange("volume", "cache", "add"), ItemChange("secret", "old-key", "remove")),
        (TaskStep(1, "stop", "shop_web.1", "n1"), TaskStep(1, "start", "shop_web.1", "worker-eu-central-7"),
         TaskStep(2, "start", "shop_web.4", "n2")),
        (Trouble("shop_web.5", NO_FIT),),
    )  # fmt: skip


def explanation() -> Explanation:
    trouble = Trouble("shop_web.3", NO_FIT, "any of the changes below would make a node fit")
    full = Trouble("n1", "too little memory (reserved 3.5G of 4.0G)", "reserve less, or add memory")
    lately = Trouble("shop_web.3", f"failed: exited with code 3; it said: {WIDE} (4 times)", "look at its log")
    fits = (NodeFit("n1", 1, False, (full,), (lately,)), NodeFit("worker-eu-central-7", 1, True, (), ()))
    return Explanation("shop_web", "shop_web", 3, 2, (trouble,), fits)


def audit() -> list[AuditEntry]:
    return [
        AuditEntry("1", THEN, "client", "ann", "deploy", 200, "shop", "shop", "revision 11", "revision 12", "",
                   "0123456789ab", "192.0.2.17"),
        AuditEntry("2", THEN + 60, "client", "deploy-bot", "scale", 403, "blog", "blog", why="there is no stack blog",
                   address="2001:db8::4242", count=12),
        AuditEntry("3", THEN + 90, "local", "root", "user create", 201, "ann", after="deployer of shop, team-*"),
    ]  # fmt: skip


def users() -> list[UserView]:
    return [
        UserView("ann", "deployer", ("shop", "team-*"), False, ago(40), "root"),
        UserView("deploy-bot-of-the-storefront", "deployer", ("shop",), True, ago(3), "ann"),
        UserView("ops", "admin", (), False, ago(300), "root"),
    ]


def tokens() -> list[TokenView]:
    return [
        TokenView("0123456789ab", "worker", True),
        TokenView("ba9876543210", "manager", False, ago(3), THEN, once=True),
        TokenView("feedfacecafe", "worker", False, ago(40), once=True, used_by="worker-eu-central-7"),
        TokenView("0ddba11c0ffe", "worker", False, ago(40), outdated=True),
    ]


def stacks() -> list[StackView]:
    return [
        StackView("shop", "s1", 12, "converging", 3, 14, 11, ago(40), ago(3), "ann", "the new cart"),
        StackView("monitoring-of-everything", "s2", 1, "running", 2, 13, 13, ago(300), ago(300), "root"),
    ]


def upgrade() -> UpgradeView:
    behind = "it runs an older release, or was last heard of with an older manager"
    return UpgradeView(3, 4, (ProgramView("manager", "n1", 4, "0.2.0"), ProgramView("agent", "n1", 4, "0.2.0"),
                              ProgramView("agent", "worker-eu-central-7", 3, "0.1.0", behind)))  # fmt: skip


def rebalance() -> RebalanceView:
    return RebalanceView(False, 0, 0, (MoveView("shop_web.2", "t", "worker-eu-central-7", "n1"),))


def diff() -> DiffView:
    return DiffView("shop", 11, 12, plan().changes)


ANSWERS: dict[str, Callable[[], Any]] = {
    "/v1/stacks": stacks,
    "/v1/services": services,
    "/v1/tasks": tasks,
    "/v1/nodes": nodes,
    "/v1/networks": networks,
    "/v1/volumes": volumes,
    "/v1/secrets": secrets,
    "/v1/secrets/db-password": lambda: secrets()[0],
    "/v1/networks/i2": network,
    "/v1/stacks/shop/revisions": revisions,
    "/v1/stacks/shop/plan": plan,
    "/v1/stacks/shop/diff": diff,
    "/v1/disk": disk,
    "/v1/explain/shop_web": explanation,
    "/v1/audit": audit,
    "/v1/users": users,
    "/v1/tokens": tokens,
    "/v1/upgrade": upgrade,
    "/v1/rebalance": rebalance,
}
COMMANDS = [
    "ls", "services", "ps", "top --no-stream", "top --no-stream --by node", "df", "node ls", "network ls", "volume ls",
    "secret ls",
    "secret inspect db-password", "network inspect shop_default", "history shop", "events",
    "plan -f compose.yml", "diff shop", "explain shop_web", "audit", "user ls",
    "token ls", "upgrade", "rebalance --dry-run", "context ls",
]  # fmt: skip


class _Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Always

    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if path == "/v1/events":
            body = b"".join(msgspec.json.encode(event) + b"\n" for event in events())
        elif path == "/v1/usage":
            body = msgspec.json.encode(next(self.server.usage))
        else:
            body = msgspec.json.encode(ANSWERS[path]())
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def address_string(self) -> str:
        return "a test"

    def log_message(self, format: str, *words: Any) -> None:
        """Say nothing."""


class Always(ThreadingMixIn, UnixStreamServer):
    """Gives the same answers to whoever asks; of what tasks use, one look after the other."""

    daemon_threads = True

    def __init__(self, path: Path) -> None:
        super().__init__(str(path), _Answering)
        self.usage = usage()


@pytest.fixture
def always(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "manager.sock"
    with Always(path) as server:
        serving = threading.Thread(target=server.serve_forever)
        serving.start()
        try:
            yield path
        finally:
            server.shutdown()
            serving.join()


def shown(person: Terminal, socket: Path, words: list[str], columns: int) -> str:
    """What a person sees at a terminal of that width, notes and errors included."""
    mine, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    environment = {"STACK_HOST": str(socket), "TZ": "UTC", "TERM": "xterm"}
    with subprocess.Popen(
        [sys.executable, "-c", "from cli.main import main; main()", *words],
        cwd=person.folder, env=person.environment | environment, stdin=theirs, stdout=theirs, stderr=theirs,
    ):  # fmt: skip
        os.close(theirs)
        seen = b""
        while True:
            try:
                data = os.read(mine, 65536)
            except OSError:  # they have all gone
                break
            if not data:
                break
            seen += data
    os.close(mine)
    return seen.decode().replace("\r\n", "\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_listing_looks_as_it_did(person: Terminal, always: Path, command: str) -> None:
    person.write("compose.yml", "name: shop\nservices: {web: {image: x}}\n")
    person.know(
        "prod",
        prod={"endpoints": ["https://192.0.2.1:2377", "https://192.0.2.2:2377"]},
        lab={"socket": "/run/stackyard/manager.sock"},
        far={"ssh": "ssh://root@manager.example.org"},
    )
    told = ""
    for columns in WIDTHS:
        seen = shown(person, always, command.split(), columns)
        told += f"{'-' * columns}\n$ stack {command}\n{seen}"
        assert max(map(columns_of, seen.splitlines())) <= columns, seen
    file = GOLDEN / (command.replace(" ", "-").replace("---", "-").replace("--", "-") + ".txt")
    if os.environ.get("STACKYARD_GOLDEN") == "write":
        GOLDEN.mkdir(exist_ok=True)
        file.write_text(told)
    assert told == file.read_text()
