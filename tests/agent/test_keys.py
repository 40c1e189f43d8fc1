"""Every key of a container on real engines of two generations: the engine gives it back, or it is there inside."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from agent.container import Image
from agent.create import Host, create_request
from cluster.assignments import ServiceItem
from cluster.model.container import DeviceMapping, DeviceRequest, Healthcheck, Mount
from cluster.model.service import Reservations, Resources
from cluster.model.task import Task, TaskState
from cluster.model.volume import VolumeSpec
from cluster.templates import Place
from tests.agent.builders import CLUSTER, NODE, a_network, a_task, an_item, in_network
from tests.agent.node import Node
from tests.engines import ADDRESS, BOX, EngineHost

S = TaskState

# What is asked of the container, where the engine's inspect answer has it, and what it says there.
TOLD: dict[str, tuple[dict[str, Any], str, Any]] = {
    "domainname": ({"domainname": "example.org"}, "Config.Domainname", "example.org"),
    "group_add": ({"group_add": ("44",)}, "HostConfig.GroupAdd", ["44"]),
    "security_opt": (
        {"security_opt": ("no-new-privileges:true", "seccomp=unconfined")},
        "HostConfig.SecurityOpt",
        ["no-new-privileges:true", "seccomp=unconfined"],
    ),
    "systempaths": ({"security_opt": ("systempaths=unconfined",)}, "HostConfig.MaskedPaths", []),
    "devices": (
        {"devices": (DeviceMapping("/dev/null", "/dev/nothing", "rw"),)},
        "HostConfig.Devices.0.PathInContainer",
        "/dev/nothing",
    ),
    "device_cgroup_rules": ({"device_cgroup_rules": ("c 1:3 mr",)}, "HostConfig.DeviceCgroupRules", ["c 1:3 mr"]),
    "pid": ({"pid": "host"}, "HostConfig.PidMode", "host"),
    "ipc": ({"ipc": "shareable"}, "HostConfig.IpcMode", "shareable"),
    "uts": ({"uts": "host"}, "HostConfig.UTSMode", "host"),
    "userns_mode": ({"userns_mode": "host"}, "HostConfig.UsernsMode", "host"),
    "cgroup": ({"cgroup": "host"}, "HostConfig.CgroupnsMode", "host"),
    "shm_size": ({"shm_size": 8 << 20}, "HostConfig.ShmSize", 8 << 20),
    "cpu_shares": ({"cpu_shares": 512}, "HostConfig.CpuShares", 512),
    "cpu_quota": ({"cpu_period": 50_000, "cpu_quota": 20_000}, "HostConfig.CpuQuota", 20_000),
    "cpu_period": ({"cpu_period": 50_000, "cpu_quota": 20_000}, "HostConfig.CpuPeriod", 50_000),
    "cpuset": ({"cpuset": "0"}, "HostConfig.CpusetCpus", "0"),
    "cpus": ({"resources": Resources(nano_cpus=250_000_000)}, "HostConfig.NanoCpus", 250_000_000),
    "memory": ({"resources": Resources(memory=64 << 20)}, "HostConfig.Memory", 64 << 20),
    "pids": ({"resources": Resources(pids=77)}, "HostConfig.PidsLimit", 77),
    "reservation": (
        {"resources": Resources(memory=64 << 20), "reservations": Reservations(memory=32 << 20)},
        "HostConfig.MemoryReservation",
        32 << 20,
    ),
    "oom_score_adj": ({"oom_score_adj": 300}, "HostConfig.OomScoreAdj", 300),
    "network_mode_host": ({"network_mode": "host"}, "HostConfig.NetworkMode", "host"),
    "selinux": (
        {
            "mounts": (Mount("volume", "/data", "shop_labelled", selinux="z"),),
            "volumes": (VolumeSpec("labelled", "shop_labelled", labels={"keep": "yes"}),),
        },
        "HostConfig.Binds.0",
        "shop_labelled:/data:rw,z",
    ),
}

# What may not be started everywhere that tests run.
ONLY_CREATED: dict[str, tuple[dict[str, Any], str, Any]] = {
    "privileged": ({"privileged": True}, "HostConfig.Privileged", True),
    "swap": (
        {"resources": Resources(memory=64 << 20), "memswap_limit": 128 << 20, "mem_swappiness": 10},
        "HostConfig.Memory",
        64 << 20,
    ),
    "cgroup_parent": ({"cgroup_parent": "/stackyard-tests-keys"}, "HostConfig.CgroupParent", "/stackyard-tests-keys"),
}

# What must be found inside: a script, and the words that it prints.
INSIDE: dict[str, tuple[dict[str, Any], str, str]] = {
    "groups": ({"group_add": ("44",), "user": "1000:1000"}, "id", "44"),
    "shm": ({"shm_size": 8 << 20}, "cat /proc/mounts", "shm /dev/shm tmpfs rw,nosuid,nodev,noexec,relatime,size=8192k"),
    "device": ({"devices": (DeviceMapping("/dev/null", "/dev/nothing"),)}, "ls -l /dev/nothing", "1,   3"),
    "adjusted": ({"oom_score_adj": 300}, "cat /proc/self/oom_score_adj", "300"),
    "none": ({"network_mode": "none"}, "ip -o link | cat; echo end", "lo:"),
    "host": ({"network_mode": "host"}, "ip -o -4 addr", "10.79.0.1/24"),
    "templates": (
        {"environment": {"WHO": "{{.Task.Slot}}@{{.Node.Hostname}}"}, "hostname": "web-{{.Task.Slot}}"},
        "echo $WHO; hostname",
        "1@host-1\nweb-1",
    ),
    "read_only": ({"read_only": True}, "echo x > /x", "Read-only file system"),
    "processes": ({"pid": "host"}, "cat /proc/1/comm", "tini"),
}

# What this engine may be too old for, and what it says of a newer one's.
NEWER: dict[str, tuple[dict[str, Any], tuple[int, int], str, Any]] = {
    "annotations": ({"annotations": {"a.b": "c"}}, (1, 43), "HostConfig.Annotations", {"a.b": "c"}),
    "start_interval": (
        {"healthcheck": Healthcheck(("CMD", "true"), interval=60.0, start_period=10.0, start_interval=0.5)},
        (1, 44),
        "Config.Healthcheck.StartInterval",
        500_000_000,
    ),
}

# What no node here has: the engine's own words are the task's end.
REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "gpu": ({"device_requests": (DeviceRequest(count=-1, capabilities=("gpu",)),)}, "could not select device driver"),
    "runtime": ({"runtime": "nvidia"}, "stackyard-nvidia"),
    "no_device": ({"devices": (DeviceMapping("/dev/no-such-thing", "/dev/x"),)}, "no-such-thing"),
    "no_source": ({"mounts": (Mount("bind", "/x", "/no/such/folder", selinux="z"),)}, "does not exist"),
    "never": ({"image": "never:1", "pull_policy": "never"}, "pull_policy forbids"),
    "template": ({"environment": {"A": "{{.Service.Labels.absent}}"}}, r"no .Service.Labels.absent"),
}


def dig(told: Any, path: str) -> Any:
    for part in path.split("."):
        told = told[int(part)] if part.isdigit() else told[0][part] if isinstance(told, list) else told[part]
    return told


def tasks_of(table: dict[str, Any], **more: Any) -> dict[str, tuple[ServiceItem, Task]]:
    made = {}
    for name, row in table.items():
        item = an_item(name.replace("_", "-"), **(more | row[0]))
        made[name] = (item, a_task(item))
    return made


def assign(node: Node, tasks: dict[str, tuple[ServiceItem, Task]]) -> None:
    node.assign(*(part for pair in tasks.values() for part in pair))


async def test_the_engine_gives_every_key_back(node: Node, host: EngineHost) -> None:
    tasks = tasks_of(TOLD)
    assign(node, tasks)
    for name, (_, task) in tasks.items():
        status = await node.reach(task, S.RUNNING)
        _, path, expected = TOLD[name]
        assert dig(host.call("GET", f"/containers/{status.container}/json"), path) == expected, name
    assert host.call("GET", "/volumes/shop_labelled")["Labels"]["keep"] == "yes"
    await node.leave_nothing()
    host.call("DELETE", "/volumes/shop_labelled")


async def test_what_may_not_start_here_is_created_as_asked(node: Node, host: EngineHost) -> None:
    place = Host(CLUSTER, str(host.files), ADDRESS, (1, 41), Place(NODE, "host-1"))
    for name, (item, task) in tasks_of(ONLY_CREATED, image=BOX).items():
        body = create_request(item, task, Image("box"), place)
        body["HostConfig"]["Binds"] = []
        container = await node.engine.create(f"created-{name}", body)
        _, path, expected = ONLY_CREATED[name]
        assert dig(host.call("GET", f"/containers/{container}/json"), path) == expected, name
        await node.engine.remove(container)


async def test_every_key_is_there_inside_of_the_container(node: Node, host: EngineHost) -> None:
    tasks = {}
    for name, (fields, script, _) in INSIDE.items():
        item = an_item(name.replace("_", "-"), **fields, command=("sh", "-c", f"{script}; true"))
        tasks[name] = (item, a_task(item))
    assign(node, tasks)
    for name, (_, task) in tasks.items():
        status = await node.reach(task, S.COMPLETE)
        log = host.call("GET", f"/containers/{status.container}/logs?stdout=1&stderr=1")
        text = b"".join(line[8:] for line in log.splitlines(keepends=True)).decode(errors="replace")
        assert INSIDE[name][2] in text, (name, text)
        if name == "none":
            assert "eth" not in text, "a network with nothing in it"
    await node.leave_nothing()


async def test_what_an_engine_is_too_old_for_fails_the_task_with_the_reason(node: Node, host: EngineHost) -> None:
    tasks = tasks_of(NEWER)
    assign(node, tasks)
    api = node.engine.facts.api if node.engine.facts else (0, 0)
    for name, (_, task) in tasks.items():
        _, since, path, expected = NEWER[name]
        if api >= since:
            status = await node.reach(task, S.RUNNING)
            assert dig(host.call("GET", f"/containers/{status.container}/json"), path) == expected, name
        else:
            status = await node.reach(task, S.REJECTED)
            assert "needs Docker Engine" in status.message and "Upgrade the engine" in status.message
    await node.leave_nothing()


async def test_what_a_node_lacks_is_the_tasks_end_in_the_engines_words(node: Node) -> None:
    tasks = tasks_of(REFUSED)
    assign(node, tasks)
    for name, (_, task) in tasks.items():
        status = await node.reach(task, S.REJECTED)
        assert REFUSED[name][1] in status.message, (name, status.message)
    await node.leave_nothing()


async def test_the_hardware_address_that_is_asked_for_is_that_of_the_sandbox(node: Node, host: EngineHost) -> None:
    item = an_item()
    task, peer = in_network(a_task(item), "10.128.1.1")
    [endpoint] = task.endpoints
    wanted = replace(endpoint, mac_address="02:00:5e:00:53:01")
    node.assign(item, replace(task, endpoints=(wanted,)), replace(peer, mac=wanted.mac), a_network())
    await node.reach(task, S.RUNNING)
    assert "link/ether 02:00:5e:00:53:01" in host.inside(task.id, "ip", "link", "show", "eth0")
    await node.leave_nothing()
