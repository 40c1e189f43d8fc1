"""What a deployer who is kept to some stacks may not deploy, as a table; and that what is there already may stay."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from cluster.codec import encode, key_of
from cluster.errors import Forbidden
from cluster.model.container import (
    ContainerSpec,
    DeviceMapping,
    DeviceRequest,
    FileReference,
    Logging,
    Mount,
)
from cluster.model.network import Network, NetworkSpec
from cluster.model.secret import External, SecretSpec
from cluster.model.service import API, MANAGERS, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import Task
from cluster.model.volume import Volume, VolumeSpec
from manager.api.callers import Caller, CallerKind
from manager.api.privileges import check, check_channel, of_container
from manager.picture import ClusterState, Event
from tests.manager.decide.builders import next_revision

ANN = Caller(CallerKind.CLIENT, "ann", "deployer", ("shop", "team-*"))

LEADS_OUT: dict[str, Any] = {
    "privileged": True,
    "mounts": (Mount("bind", "/host", "/"),),
    "cap_add": ("CAP_SYS_ADMIN",),
    "security_opt": ("seccomp=unconfined",),
    "devices": (DeviceMapping("/dev/sda", "/dev/sda"),),
    "device_cgroup_rules": ("b 8:* rmw",),
    "device_requests": (DeviceRequest("cdi", device_ids=("vendor.com/host=root",)),),
    "runtime": "runc",
    "annotations": {"run.oci.handler": "krun"},
    "network_mode": "host",
    "pid": "host",
    "ipc": "container:other",
    "uts": "host",
    "userns_mode": "host",
    "cgroup": "host",
    "cgroup_parent": "/",
    "oom_score_adj": -500,
    "oom_kill_disable": True,
    "cpu_rt_runtime": 950000,
    "logging": Logging("syslog", {"syslog-address": "tcp://192.0.2.1:514"}),
}
STAYS_IN: dict[str, Any] = {
    "mounts": (Mount("volume", "/data", "shop_data"), Mount("tmpfs", "/tmp"), Mount("volume", "/anonymous")),
    "cap_add": ("NET_BIND_SERVICE", "CAP_CHOWN"),
    "cap_drop": ("ALL",),
    "security_opt": ("no-new-privileges:true",),
    "device_requests": (DeviceRequest("nvidia", -1, capabilities=(("gpu"),)),),
    "network_mode": "none",
    "ipc": "private",
    "cgroup": "private",
    "oom_score_adj": 500,
    "logging": Logging("json-file", {"max-size": "1m"}),
    "sysctls": {"net.core.somaxconn": "1024"},
    "user": "0",
    "init": True,
}
HARMLESS = {
    "image", "command", "entrypoint", "environment", "labels", "hostname", "user", "working_dir", "healthcheck",
    "stop_signal", "stop_grace_period", "init", "tty", "stdin_open", "stdin_once", "read_only", "cap_drop", "sysctls",
    "ulimits",
    "extra_hosts", "dns", "dns_search", "dns_options", "secrets", "configs", "domainname", "group_add", "mac_address",
    "shm_size", "storage_opt", "cpu_shares", "cpu_period", "cpu_quota", "cpu_rt_period", "cpuset", "memswap_limit",
    "mem_swappiness", "platform", "pull_policy", "unset_environment", "block_io",
}  # fmt: skip


def spec(container: ContainerSpec | None = None, name: str = "shop", **more: Any) -> StackSpec:
    service = ServiceSpec("web", container or ContainerSpec("app:1"))
    volumes = {"data": VolumeSpec("data", f"{name}_data")}
    return replace(StackSpec(name, {"web": service}, volumes=volumes), **more)


class Pictures:
    """A picture that grows by what is put into it."""

    def __init__(self) -> None:
        self.state = ClusterState()

    def put(self, *records: Any) -> None:
        revision = self.state.revision + 1
        self.state.apply([Event(key_of(record), encode(record), revision) for record in records], revision)

    def deployed(self, given: StackSpec) -> None:
        self.put(*next_revision(self.state, given))


@pytest.fixture
def pictures() -> Pictures:
    return Pictures()


def refused(state: ClusterState, given: StackSpec, caller: Caller = ANN) -> str:
    with pytest.raises(Forbidden) as error:
        check(state, caller, given)
    assert "--privileged" in error.value.hint
    return error.value.message


@pytest.mark.parametrize("field", LEADS_OUT)
def test_what_leads_out_of_a_container(pictures: Pictures, field: str) -> None:
    given = spec(ContainerSpec("app:1", **{field: LEADS_OUT[field]}))
    assert refused(pictures.state, given).startswith("services.web.")
    for trusted in (
        replace(ANN, privileged=True),
        replace(ANN, role="operator", stacks=()),
        Caller(CallerKind.LOCAL, "root", "admin"),
    ):
        check(pictures.state, trusted, given)


@pytest.mark.parametrize("field", STAYS_IN)
def test_what_stays_in_it(pictures: Pictures, field: str) -> None:
    check(pictures.state, ANN, spec(ContainerSpec("app:1", **{field: STAYS_IN[field]})))


def test_what_reaches_the_managers(pictures: Pictures) -> None:
    caller = replace(ServiceSpec("web", ContainerSpec("app:1")), labels={MANAGERS: API})
    assert "services.web.x-managers" in refused(pictures.state, spec(services={"web": caller}))
    check(pictures.state, replace(ANN, privileged=True), spec(services={"web": caller}))


def test_each_field_of_a_container_was_judged() -> None:
    """Whoever adds a field says whether it leads out of a container."""
    assert {field.name for field in fields(ContainerSpec)} == HARMLESS | LEADS_OUT.keys()


@pytest.mark.parametrize(
    "volume",
    [
        VolumeSpec("data", "shop_data", driver_options={"type": "none", "o": "bind", "device": "/"}),
        VolumeSpec("data", "shop_data", driver="rexray"),
        VolumeSpec("data", "billing_data", external=True),
        VolumeSpec("data", "billing_data"),
        VolumeSpec("data{{.Node.ID}}", "shop_data{{.Node.ID}}"),
    ],
    ids=["options", "driver", "external", "name", "template"],
)
def test_volumes_that_are_not_the_stacks_own(pictures: Pictures, volume: VolumeSpec) -> None:
    assert refused(pictures.state, spec(volumes={volume.key: volume})).startswith("volumes.")


def test_a_name_that_two_stacks_can_make_is_whose_it_was_first(pictures: Pictures) -> None:
    """The volume `data` of team-a_x is called as the volume `x_data` of team-a."""
    ours = spec(name="team-a", volumes={"x_data": VolumeSpec("x_data", "team-a_x_data")})
    check(pictures.state, ANN, ours)
    pictures.deployed(spec(name="team-a_x"))
    assert "another stack" in refused(pictures.state, ours)
    uid = pictures.state.stacks["team-a_x"].uid
    pictures.put(Volume("team-a_x_data", "n1", uid, 1.0))
    pictures.deployed(spec(name="team-a_x", volumes={}))
    assert "another stack" in refused(pictures.state, ours), "its data is there"


def test_networks_of_other_stacks(pictures: Pictures) -> None:
    pictures.deployed(spec(name="billing"))
    pictures.deployed(spec(name="team-b"))
    for number, name in enumerate(("billing", "team-b")):
        uid = pictures.state.stacks[name].uid
        pictures.put(Network(f"net{number}", f"{name}_back", uid, "back", number + 5000, ("10.9.0.0/24",)))
    theirs = spec(networks={"back": NetworkSpec("back", "billing_back", external=True)})
    assert "billing_back" in refused(pictures.state, theirs)
    check(pictures.state, ANN, spec(networks={"back": NetworkSpec("back", "team-b_back", external=True)}))
    pictures.deployed(theirs)
    check(pictures.state, ANN, theirs)


def test_external_secrets(pictures: Pictures) -> None:
    def asking(name: str) -> StackSpec:
        return spec(secrets={"key": SecretSpec("key", name, external=True)})

    def external(name: str, *stacks: str) -> External:
        return External("secret", name, "9f2c" * 16, 12, 1.0, "root", stacks=stacks)

    pictures.put(external("for-all", "*"), external("for-shop", "shop"), external("for-none"), external("other", "b*"))
    for name in ("for-all", "for-shop"):
        check(pictures.state, ANN, asking(name))
    for name in ("for-none", "other", "unknown"):
        assert name in refused(pictures.state, asking(name))
    pictures.deployed(asking("for-none"))
    check(pictures.state, ANN, asking("for-none"))


def test_what_an_operator_deployed_may_be_scaled_and_not_changed(pictures: Pictures) -> None:
    secret = FileReference("key", "/run/secrets/key", digest="aa")
    trusted = ContainerSpec("proxy:1", mounts=LEADS_OUT["mounts"], secrets=(secret,))
    pictures.deployed(spec(trusted))
    same = spec(trusted)
    check(pictures.state, ANN, same)
    check(pictures.state, ANN, replace(same, services={"web": replace(same.services["web"], replicas=9)}))
    other = ServiceSpec("api", ContainerSpec("api:2"))
    check(pictures.state, ANN, replace(same, services=same.services | {"api": other}))
    for changed in (
        replace(trusted, image="evil:1"),
        replace(trusted, command=("sh",)),
        replace(trusted, secrets=(replace(secret, digest="bb"),)),
    ):
        assert "bind mounts" in refused(pictures.state, spec(changed))
    copied = replace(same, services=same.services | {"copy": replace(same.services["web"], name="copy")})
    assert refused(pictures.state, copied).startswith("services.copy.")
    before = replace(trusted, secrets=(replace(secret, digest=""),))
    check(pictures.state, ANN, spec(before), digests=False)


@pytest.mark.parametrize("purpose", ["exec", "archive"])
def test_tasks_that_lead_to_their_host_are_not_entered(pictures: Pictures, purpose: Any) -> None:
    from cluster.model.service import ServiceState

    for container, there in ((ContainerSpec("app:1"), False), (ContainerSpec("app:1", privileged=True), True)):
        pictures.deployed(spec(container))
        stack = pictures.state.stacks["shop"]
        head = pictures.state.head(stack.uid)
        assert head is not None
        uid = head.services["web"].uid
        task = Task(f"t{head.n}", stack.uid, uid, 1, head.n, head.services["web"].version, 1.0)
        pictures.put(ServiceState(uid, stack.uid, "shop", "web"), task)
        check_channel(pictures.state, replace(ANN, privileged=True), task, purpose)
        check_channel(pictures.state, ANN, task, "port")
        if not there:
            check_channel(pictures.state, ANN, task, purpose)
            continue
        with pytest.raises(Forbidden, match="may not enter"):
            check_channel(pictures.state, ANN, task, purpose)


def test_what_is_told_are_fields_of_compose() -> None:
    container = ContainerSpec("app:1", **LEADS_OUT)
    assert {field for field, _ in of_container(container)} >= {"volumes", "gpus", "privileged", "pid"}
