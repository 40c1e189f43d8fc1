"""One record of every stored type with all of its fields set, as the first version wrote them."""

from __future__ import annotations

from cluster.codec import Record
from cluster.model.attachment import Attachment
from cluster.model.cluster import Claim, ClockMark, Cluster, Trust, TrustPhase
from cluster.model.container import ContainerSpec, Healthcheck, Logging, Mount, Ulimit
from cluster.model.network import Endpoint, Network, NetworkSpec
from cluster.model.node import (
    Availability,
    Manager,
    Node,
    NodeDescription,
    NodeState,
    NodeStatus,
    Session,
    SessionState,
)
from cluster.model.oneoff import OneOff
from cluster.model.rebalance import Rebalance, RebalanceWish
from cluster.model.secret import Content, External
from cluster.model.service import (
    NetworkAttachment,
    PortSpec,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceSpec,
    ServiceState,
)
from cluster.model.stack import ServiceVersion, Stack, StackRevision, StackSpec
from cluster.model.task import Desired, Task, TaskState, TaskStatus
from cluster.model.update import Withdrawn
from cluster.model.user import Credential, User
from cluster.model.volume import Volume, VolumeSpec

_CONTAINER = ContainerSpec(
    image="registry:5000/vote:1",
    command=("python", "app.py"),
    entrypoint=(),
    environment={"OPTION_A": "Cats", "EMPTY": ""},
    labels={"team": "blue"},
    hostname="vote",
    user="1000:1000",
    working_dir="/app",
    mounts=(
        Mount("volume", "/data", "app_data", read_only=True, nocopy=True),
        Mount("bind", "/etc/app", "/srv/app", propagation="rslave", create_host_path=True),
        Mount("tmpfs", "/tmp", tmpfs_size=1048576, tmpfs_mode=1023),
    ),
    healthcheck=Healthcheck(("CMD", "true"), 5.0, 2.0, 1.5, 0.5, 3),
    stop_signal="SIGINT",
    stop_grace_period=2.5,
    init=True,
    tty=True,
    stdin_open=True,
    read_only=True,
    cap_add=("NET_ADMIN",),
    cap_drop=("ALL",),
    sysctls={"net.core.somaxconn": "1024"},
    ulimits={"nofile": Ulimit(1024, 2048)},
    extra_hosts=(("db", "10.0.0.9"),),
    dns=("10.0.0.2",),
    dns_search=("example.org",),
    dns_options=("ndots:1",),
    logging=Logging("json-file", {"max-size": "1m"}),
)

_SERVICE = ServiceSpec(
    name="vote",
    container=_CONTAINER,
    networks=(NetworkAttachment("front", ("vote", "ballot")),),
    ports=(PortSpec(80, 8080, "tcp", "ingress", ""), PortSpec(53, 5353, "udp", "host", "10.77.0.1")),
    replicas=3,
    resources=Resources(500_000_000, 67_108_864, 100),
    restart=RestartPolicy(RestartCondition.ON_FAILURE, 1.5, 5, 60.0),
    constraints=("node.labels.disk == ssd",),
    labels={"tier": "web"},
)

_SPEC = StackSpec(
    name="app",
    services={"vote": _SERVICE},
    networks={"front": NetworkSpec("front", "app_front", False, True, 1400, ("10.9.0.0/24",), {"a": "b"})},
    volumes={"data": VolumeSpec("data", "app_data", False, "local", {"type": "none"}, {"c": "d"})},
)

_DESCRIPTION = NodeDescription(
    hostname="n1.example.org",
    address="10.77.0.1",
    agent_version="0.1.0",
    boot_id="9f5a",
    os="linux",
    architecture="x86_64",
    kernel="6.1.0",
    engine_version="20.10.24",
    engine_api="1.41",
    cpus=2,
    memory=4_294_967_296,
    engine_labels={"rack": "r1"},
)

_ENDPOINT = Endpoint("net1", ("10.128.0.2", "fd00::2"), ("vote",))

EXAMPLES: dict[str, Record] = {
    "cluster": Cluster("c1", 1700000000.5, 1, "10.128.0.0/10", 20, "10.192.0.0/16", 30.0),
    "clock": ClockMark(1700000000.25),
    "stack": Stack("s1", "app", 4, "op4", removing=True, remove_volumes=True),
    "revision": StackRevision(
        stack_uid="s1",
        n=4,
        spec=_SPEC,
        services={"vote": ServiceVersion("v1", 3)},
        author="ann",
        reason="more of it",
        created_at=1700000000.0,
        operation="op4",
        image_digests={"vote": "sha256:aa"},
        secret_digests={"password": "hmac:bb"},
        config_digests={"site": "hmac:cc"},
    ),
    "service": ServiceState("v1", "s1", "app", "vote", 7, 1700000060.0, "set aside after a bug", 2),
    "network": Network("net1", "app_front", "s1", "front", 4097, ("10.128.0.0/20", "fd00::/64"), True, 1400),
    "volume": Volume("app_data", "n1", "s1", 1700000000.0),
    "task": Task(
        id="0123456789abcdef012345678",
        stack_uid="s1",
        service_uid="v1",
        slot=2,
        n=7,
        version=3,
        created_at=1700000001.0,
        node="n1",
        desired=Desired.SHUTDOWN,
        endpoints=(_ENDPOINT,),
        not_before=1700000002.0,
        failures=2,
        first_failure_at=1699999990.0,
        reason="replaced by version 4",
    ),
    "taskstatus": TaskStatus(
        "0123456789abcdef012345678", TaskState.FAILED, 1700000003.0, "exited", "c0ffee", 137, restarts=1
    ),
    "node": Node("n1", "n1", "manager", 1699990000.0, {"disk": "ssd"}, Availability.PAUSE),
    "nodestate": NodeState("n1", NodeStatus.DOWN, 1700000004.0, "neither answers", _ENDPOINT, 1700000034.0),
    "session": Session(
        node="n1",
        epoch=5,
        manager="m1",
        state=SessionState.SILENT,
        since=1700000003.5,
        description=_DESCRIPTION,
        reachable=False,
        back_by=1700000030.0,
        conditions={"engine": "the engine does not answer"},
    ),
    "manager": Manager("m1", "n1", "https://10.77.0.1:2377", 1699990000.0),
    "claim": Claim("address", "net1/10.128.0.2", "0123456789abcdef012345678"),
    "content": Content("stack.app", "9f2c" * 16, 4096, "0a1b2c3d", 1700000000.0),
    "external": External("secret", "db-password", "9f2c" * 16, 12, 1700000000.0, "ann", {"team": "blue"}),
    "rebalancewish": RebalanceWish("0a1b2c3d", 1700000000.0, True, 2, 300.0),
    "rebalance": Rebalance("0a1b2c3d", True, 1700000001.0, 0.0, "0f0e0d", 3, 1),
    "attachment": Attachment(
        id="net1-hand-c0ffee",
        network="net1",
        asked="debug",
        created_at=1700000000.0,
        node="n1",
        container="c0ffee",
        aliases=("debug", "probe"),
        addresses=("10.128.0.9",),
        removing=True,
    ),
    "oneoff": OneOff(
        id="0123456789abcdef",
        stack_uid="s1",
        stack="app",
        service="vote",
        name="vote-run-01234567",
        version=4,
        spec=_SPEC.services["vote"],
        author="ann",
        created_at=1700000000.0,
        attended=True,
        manager="m1",
        joined=True,
        alone_since=1700000002.0,
        removing=True,
    ),
    "withdrawn": Withdrawn("m1", {"0123456789abcdef012345678": 1700000005.5}),
    "user": User(
        "ann",
        "deployer",
        1700000000.0,
        "root",
        ("shop", "team-*"),
        True,
        (
            Credential("0123456789ab", "token", 1700000000.0, 1700086400.0, "9f2c" * 16),
            Credential("ba9876543210", "certificate", 1700000001.0, 1707776001.0),
        ),
    ),
    "trust": Trust(
        generation=2,
        phase=TrustPhase.RENEWING,
        since=1700000000.0,
        roots=("-----BEGIN CERTIFICATE-----\nnew\n", "-----BEGIN CERTIFICATE-----\nold\n"),
        cross="-----BEGIN CERTIFICATE-----\nnew by old\n",
        earlier=("9f2c" * 16,),
    ),
}
