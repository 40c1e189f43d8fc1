from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.container import Image, image_wish
from agent.create import (
    Host,
    Unsupported,
    container_name,
    create_request,
    expanded,
    has_healthcheck,
    needed_sources,
    task_files,
    volumes_to_make,
)
from agent.resolv_conf import ResolvConf
from cluster.model.container import (
    BlockIO,
    ContainerSpec,
    DeviceMapping,
    DeviceRequest,
    Healthcheck,
    Logging,
    Mount,
    Ulimit,
)
from cluster.model.network import INGRESS, Endpoint
from cluster.model.service import Reservations, Resources, ServiceMode
from cluster.model.volume import VolumeSpec
from cluster.templates import Place
from tests.agent.builders import CLUSTER, a_task, an_item

HOST = Host(CLUSTER, "/data/tasks", "10.0.0.7", (1, 41), Place("node-id", "alpha", "linux", "x86_64"))
IMAGE = Image("sha256:1", entrypoint=("/entry",))


def request(host: Host = HOST, volumes: tuple[VolumeSpec, ...] = (), **fields: Any) -> dict[str, Any]:
    item = replace(an_item(**fields), volumes=volumes)
    return create_request(item, a_task(item), IMAGE, host)


def dig(body: dict[str, Any], path: str) -> Any:
    value: Any = body
    for part in path.split("."):
        value = value[part] if isinstance(value, dict) else value[int(part)]
    return value


def test_a_container_is_named_as_swarm_names_it() -> None:
    item = an_item("web")
    task = a_task(item, slot=3)
    assert container_name(item, task) == f"shop_web.3.{task.id}"


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        pytest.param("NetworkDisabled", True, id="its network is the agent's business"),
        pytest.param("HostConfig.Runtime", "stackyard", id="the runtime puts it into the sandbox"),
        pytest.param("HostConfig.RestartPolicy", {"Name": "no"}, id="the engine never restarts it"),
        pytest.param("StopTimeout", 2, id="the engine knows its grace period"),
        pytest.param("Cmd", ["sleep", "100000"], id="its command is given"),
        pytest.param("HostConfig.Init", True, id="with init"),
    ],
)
def test_every_container_is_created_so_that(path: str, expected: Any) -> None:
    assert dig(request(), path) == expected


def test_labels_find_the_container_again_and_cannot_be_forged_by_the_user() -> None:
    item = an_item(labels={}, networks=())
    item = replace(
        item,
        spec=replace(
            item.spec,
            container=replace(item.spec.container, labels={"com.stackyard.task": "mine", "app": "shop"}),
        ),
    )
    task = a_task(item)
    labels = create_request(item, task, IMAGE, HOST)["Labels"]
    assert labels == {
        "app": "shop",
        "com.stackyard.cluster": CLUSTER,
        "com.stackyard.task": task.id,
        "com.stackyard.service": "web",
        "com.stackyard.stack": "shop",
        "com.stackyard.slot": "1",
        "com.docker.stack.namespace": "shop",
    }


def test_an_image_known_by_digest_is_wished_for_and_run_by_it() -> None:
    item = replace(an_item(image="web:1"), digest="sha256:aa")
    assert image_wish(item).name == "web:1@sha256:aa"
    assert create_request(item, a_task(item), IMAGE, HOST)["Image"] == "web:1@sha256:aa"


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        pytest.param({"environment": {"A": "1", "B": ""}}, "Env", ["A=1", "B="], id="environment"),
        pytest.param({"user": "1000:1000"}, "User", "1000:1000", id="user"),
        pytest.param({"working_dir": "/srv"}, "WorkingDir", "/srv", id="working directory"),
        pytest.param({"hostname": "db"}, "Hostname", "db", id="host name"),
        pytest.param({"stop_signal": "SIGQUIT"}, "StopSignal", "SIGQUIT", id="stop signal"),
        pytest.param({"stop_grace_period": 0.5}, "StopTimeout", 1, id="half a second of grace rounded up"),
        pytest.param({"tty": True}, "Tty", True, id="a terminal"),
        pytest.param({"read_only": True}, "HostConfig.ReadonlyRootfs", True, id="read-only root"),
        pytest.param({"cap_add": ("NET_ADMIN",)}, "HostConfig.CapAdd", ["NET_ADMIN"], id="added capability"),
        pytest.param({"cap_drop": ("ALL",)}, "HostConfig.CapDrop", ["ALL"], id="dropped capabilities"),
        pytest.param(
            {"sysctls": {"net.core.somaxconn": "1024"}},
            "HostConfig.Sysctls",
            {"net.core.somaxconn": "1024"},
            id="network sysctls go to the engine",
        ),
        pytest.param(
            {"ulimits": {"nofile": Ulimit(1024, 2048)}},
            "HostConfig.Ulimits",
            [{"Name": "nofile", "Soft": 1024, "Hard": 2048}],
            id="ulimits",
        ),
        pytest.param({"resources": Resources(nano_cpus=500_000_000)}, "HostConfig.NanoCpus", 500_000_000, id="cpus"),
        pytest.param({"resources": Resources(memory=64 << 20)}, "HostConfig.Memory", 64 << 20, id="memory"),
        pytest.param({"resources": Resources(pids=50)}, "HostConfig.PidsLimit", 50, id="pids"),
        pytest.param(
            {"logging": Logging("local", {"max-size": "1m"})},
            "HostConfig.LogConfig",
            {"Type": "local", "Config": {"max-size": "1m"}},
            id="log driver",
        ),
        pytest.param(
            {"healthcheck": Healthcheck(("CMD", "true"), interval=0.5, timeout=1.0, retries=2)},
            "Healthcheck",
            {"Test": ["CMD", "true"], "Interval": 500_000_000, "Timeout": 1_000_000_000, "Retries": 2},
            id="health check",
        ),
        pytest.param(
            {"mounts": (Mount("bind", "/data", "/srv/data", read_only=True),)},
            "HostConfig.Mounts",
            [{"Type": "bind", "Target": "/data", "ReadOnly": True, "Source": "/srv/data", "BindOptions": {}}],
            id="bind whose source must be there",
        ),
        pytest.param(
            {"mounts": (Mount("bind", "/data", "/srv/data", create_host_path=True, propagation="rslave"),)},
            "HostConfig.Binds.0",
            "/srv/data:/data:rw,rslave",
            id="bind whose source is made",
        ),
        pytest.param(
            {"mounts": (Mount("tmpfs", "/tmp", tmpfs_size=1024),)},
            "HostConfig.Mounts",
            [{"Type": "tmpfs", "Target": "/tmp", "ReadOnly": False, "TmpfsOptions": {"SizeBytes": 1024}}],
            id="tmpfs",
        ),
        pytest.param(
            {
                "mounts": (Mount("volume", "/var/lib", "shop_data", nocopy=True),),
                "volumes": (VolumeSpec("data", "shop_data", driver_options={"type": "nfs"}, labels={"keep": "yes"}),),
            },
            "HostConfig.Mounts.0.VolumeOptions",
            {
                "NoCopy": True,
                "Labels": {"keep": "yes", "com.stackyard.stack": "shop", "com.docker.stack.namespace": "shop"},
                "DriverConfig": {"Name": "local", "Options": {"type": "nfs"}},
            },
            id="volume, with how to make it",
        ),
        pytest.param(
            {
                "mounts": (Mount("volume", "/var/lib", "theirs"),),
                "volumes": (VolumeSpec("data", "theirs", external=True, driver="x"),),
            },
            "HostConfig.Mounts.0.VolumeOptions",
            {"NoCopy": False},
            id="external volume, made by others",
        ),
    ],
)
def test_what_compose_says_is_said_to_the_engine(fields: dict[str, Any], path: str, expected: Any) -> None:
    assert dig(request(**fields), path) == expected


NEW = replace(HOST, api=(1, 47))


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"domainname": "example.org"}, "Domainname", "example.org"),
        ({"privileged": True}, "HostConfig.Privileged", True),
        ({"group_add": ("audio", "44")}, "HostConfig.GroupAdd", ["audio", "44"]),
        ({"security_opt": ("no-new-privileges:true",)}, "HostConfig.SecurityOpt", ["no-new-privileges:true"]),
        ({"security_opt": ("systempaths=unconfined",)}, "HostConfig.MaskedPaths", []),
        ({"security_opt": ("systempaths=unconfined",)}, "HostConfig.SecurityOpt", []),
        (
            {"devices": (DeviceMapping("/dev/null", "/dev/nothing", "r"),)},
            "HostConfig.Devices",
            [{"PathOnHost": "/dev/null", "PathInContainer": "/dev/nothing", "CgroupPermissions": "r"}],
        ),
        (
            {"devices": (DeviceMapping("vendor.com/gpu=0", "vendor.com/gpu=0"),)},
            "HostConfig.DeviceRequests",
            [{"Driver": "cdi", "DeviceIDs": ["vendor.com/gpu=0"]}],
        ),
        ({"device_cgroup_rules": ("c 1:3 mr",)}, "HostConfig.DeviceCgroupRules", ["c 1:3 mr"]),
        (
            {"device_requests": (DeviceRequest("nvidia", -1, (), ("gpu",), {"a": "b"}),)},
            "HostConfig.DeviceRequests",
            [{"Driver": "nvidia", "Count": -1, "Capabilities": [["gpu"]], "Options": {"a": "b"}}],
        ),
        (
            {"device_requests": (DeviceRequest(device_ids=("0", "3"), capabilities=("gpu",)),)},
            "HostConfig.DeviceRequests.0.DeviceIDs",
            ["0", "3"],
        ),
        ({"runtime": "nvidia"}, "HostConfig.Runtime", "stackyard-nvidia"),
        ({"pid": "host"}, "HostConfig.PidMode", "host"),
        ({"ipc": "shareable"}, "HostConfig.IpcMode", "shareable"),
        ({"uts": "host"}, "HostConfig.UTSMode", "host"),
        ({"userns_mode": "host"}, "HostConfig.UsernsMode", "host"),
        ({"cgroup": "host"}, "HostConfig.CgroupnsMode", "host"),
        ({"cgroup_parent": "/mine"}, "HostConfig.CgroupParent", "/mine"),
        ({"shm_size": 1 << 20}, "HostConfig.ShmSize", 1 << 20),
        ({"storage_opt": {"size": "1G"}}, "HostConfig.StorageOpt", {"size": "1G"}),
        ({"cpu_shares": 5}, "HostConfig.CpuShares", 5),
        ({"cpu_period": 6}, "HostConfig.CpuPeriod", 6),
        ({"cpu_quota": 7}, "HostConfig.CpuQuota", 7),
        ({"cpu_rt_period": 8}, "HostConfig.CpuRealtimePeriod", 8),
        ({"cpu_rt_runtime": 9}, "HostConfig.CpuRealtimeRuntime", 9),
        ({"cpuset": "0,1"}, "HostConfig.CpusetCpus", "0,1"),
        ({"memswap_limit": -1}, "HostConfig.MemorySwap", -1),
        ({"mem_swappiness": 0}, "HostConfig.MemorySwappiness", 0),
        ({"oom_kill_disable": True}, "HostConfig.OomKillDisable", True),
        ({"oom_score_adj": -500}, "HostConfig.OomScoreAdj", -500),
        ({"reservations": Reservations(memory=1 << 20)}, "HostConfig.MemoryReservation", 1 << 20),
        ({"annotations": {"a": "b"}}, "HostConfig.Annotations", {"a": "b"}),
        ({"healthcheck": Healthcheck(("CMD", "x"), start_interval=1.0)}, "Healthcheck.StartInterval", 1_000_000_000),
        (
            {"mounts": (Mount("volume", "/v", "shop_v", subpath="a/b"),)},
            "HostConfig.Mounts.0.VolumeOptions.Subpath",
            "a/b",
        ),
        ({"mounts": (Mount("bind", "/c", "/srv/c", selinux="Z"),)}, "HostConfig.Binds.0", "/srv/c:/c:rw,Z"),
        (
            {"mounts": (Mount("volume", "/c", "shop_c", nocopy=True, selinux="z"),)},
            "HostConfig.Binds.0",
            "shop_c:/c:rw,z,nocopy",
        ),
    ],
)
def test_every_other_key_is_said_to_a_new_engine(fields: dict[str, Any], path: str, expected: Any) -> None:
    assert dig(request(NEW, **fields), path) == expected


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"healthcheck": Healthcheck(("CMD", "x"), start_interval=1.0)}, r"start_interval needs Docker Engine 25\.0"),
        ({"annotations": {"a": "b"}}, r"annotations needs Docker Engine 24\.0"),
        ({"mounts": (Mount("volume", "/v", "shop_v", subpath="a"),)}, r"subpath needs Docker Engine 26\.0"),
        ({"devices": (DeviceMapping("v.com/gpu=0", "v.com/gpu=0"),)}, r"CDI name\) needs Docker Engine 25\.0"),
        ({"mounts": (Mount("volume", "/v", "shop_v", subpath="a", selinux="z"),)}, "both a subpath and an SELinux"),
    ],
)
def test_what_an_engine_is_too_old_for_is_refused_by_name(fields: dict[str, Any], words: str) -> None:
    with pytest.raises(Unsupported, match=words):
        request(**fields)


@pytest.mark.parametrize(
    ("fields", "path", "expected"),
    [
        ({"unset_environment": ("PATH_OF_IMAGE",)}, "Env.-1", "PATH_OF_IMAGE"),
        (
            {"mounts": (Mount("tmpfs", "/t", tmpfs_size=64, tmpfs_mode=0o700, tmpfs_options=("exec", "uid=5")),)},
            "HostConfig.Tmpfs",
            {"/t": "size=64,mode=700,exec,uid=5"},
        ),
        ({"block_io": BlockIO(weight=300)}, "HostConfig.BlkioWeight", 300),
        (
            {"block_io": BlockIO(device_weights={"/dev/sda": 50})},
            "HostConfig.BlkioWeightDevice",
            [{"Path": "/dev/sda", "Weight": 50}],
        ),
        (
            {"block_io": BlockIO(write_calls={"/dev/sda": 9})},
            "HostConfig.BlkioDeviceWriteIOps",
            [{"Path": "/dev/sda", "Rate": 9}],
        ),
    ],
)
def test_what_docker_compose_says_is_said_to_the_engine_too(fields: dict[str, Any], path: str, expected: Any) -> None:
    assert dig(request(**fields), path) == expected


def test_what_is_not_asked_for_is_left_to_the_engine() -> None:
    said = request()["HostConfig"]
    assert set(said) == {
        "RestartPolicy", "Init", "ReadonlyRootfs", "Binds", "Mounts", "CapAdd", "CapDrop", "Privileged", "GroupAdd",
        "SecurityOpt", "DeviceCgroupRules", "Devices", "Sysctls", "StorageOpt", "Runtime", "Ulimits",
    }  # fmt: skip


def test_a_container_in_the_hosts_network_has_neither_sandbox_nor_files_of_ours() -> None:
    fields: dict[str, Any] = {"extra_hosts": (("db", "192.0.2.1"), ("me", "host-gateway")), "dns": ("192.0.2.53",)}
    body = request(network_mode="host", **fields)
    said = body["HostConfig"]
    assert body["NetworkDisabled"] is False and "Hostname" not in body and "Runtime" not in said
    assert (said["NetworkMode"], said["Binds"], said["Dns"]) == ("host", [], ["192.0.2.53"])
    assert said["ExtraHosts"] == ["db:192.0.2.1", "me:10.0.0.7"]
    assert request(network_mode="host", hostname="h", runtime="crun")["HostConfig"]["Runtime"] == "crun"
    assert request(network_mode="none")["HostConfig"]["Runtime"] == "stackyard", "a sandbox with nothing in it"


def test_a_host_name_is_not_given_to_a_container_that_shares_the_hosts() -> None:
    assert "Hostname" not in request(uts="host")
    assert request(uts="host", hostname="h")["Hostname"] == "h", "and the engine tells that both are in conflict"


def test_what_the_older_form_of_a_mount_cannot_say_is_said_before() -> None:
    mounts = (
        Mount("bind", "/a", "/srv/a", selinux="z"),
        Mount("bind", "/b", "/srv/b", selinux="z", create_host_path=True),
        Mount("volume", "/c", "shop_c", selinux="z"),
        Mount("volume", "/d", "theirs", selinux="z"),
    )
    volumes = (VolumeSpec("c", "shop_c", driver_options={"o": "p"}), VolumeSpec("d", "theirs", external=True))
    item = an_item(mounts=mounts, volumes=volumes)
    assert needed_sources(item) == ("/srv/a",)
    assert volumes_to_make(item) == [
        {
            "Name": "shop_c",
            "Driver": "local",
            "DriverOpts": {"o": "p"},
            "Labels": {"com.stackyard.stack": "shop", "com.docker.stack.namespace": "shop"},
        }
    ]


@pytest.mark.parametrize(("mode", "slot"), [(ServiceMode.REPLICATED, "2"), (ServiceMode.GLOBAL, "node-id")])
def test_templates_are_expanded_with_what_the_node_knows(mode: ServiceMode, slot: str) -> None:
    item = an_item(
        mode=mode,
        environment={"WHERE": "{{.Node.Hostname}}/{{.Node.Platform.Architecture}}", "SLOT": "{{.Task.Slot}}"},
        mounts=(Mount("volume", "/d", "shop_d-{{.Task.Slot}}"),),
        volumes=(VolumeSpec("d", "shop_d-{{.Task.Slot}}", labels={"of": "{{.Service.Name}}"}),),
    )
    task = a_task(item, slot=2)
    body = create_request(expanded(item, task, HOST), task, IMAGE, HOST)
    assert body["Env"] == ["WHERE=alpha/x86_64", f"SLOT={slot}"]
    [mount] = body["HostConfig"]["Mounts"]
    assert (mount["Source"], mount["VolumeOptions"]["Labels"]["of"]) == (f"shop_d-{slot}", "shop_web")


@pytest.mark.parametrize(
    ("command", "entrypoint", "expected"),
    [
        pytest.param(None, None, {}, id="neither given: the image's"),
        pytest.param(("ls",), None, {"Cmd": ["ls"]}, id="command alone"),
        pytest.param(None, ("/x",), {"Entrypoint": ["/x"]}, id="entrypoint alone"),
        pytest.param(None, (), {"Entrypoint": [""]}, id="entrypoint cleared"),
        pytest.param(
            (), None, {"Entrypoint": ["/entry"], "Cmd": []}, id="command cleared, the image's entrypoint kept"
        ),
        pytest.param((), ("/x", "y"), {"Entrypoint": ["/x", "y"], "Cmd": []}, id="command cleared, entrypoint given"),
    ],
)
def test_cleared_differs_from_not_given(
    command: tuple[str, ...] | None, entrypoint: tuple[str, ...] | None, expected: dict[str, Any]
) -> None:
    body = request(command=command, entrypoint=entrypoint)
    assert {key: body[key] for key in ("Cmd", "Entrypoint") if key in body} == expected


LOCAL = """\
127.0.0.1	localhost
::1	localhost ip6-localhost ip6-loopback
fe00::	ip6-localnet
ff00::	ip6-mcastprefix
ff02::1	ip6-allnodes
ff02::2	ip6-allrouters
"""


def test_files_of_the_network_are_the_agents_own() -> None:
    hosts = (("db", "192.0.2.1"), ("db", "2001:db8::1"), ("me", "host-gateway"))
    item = an_item(extra_hosts=hosts, dns_search=("a.test", "b.test"))
    published, front = Endpoint(INGRESS, ("10.255.0.5",)), Endpoint("n", ("10.1.0.5", "fd00::5"))
    task = replace(a_task(item), endpoints=(published, front))
    name = task.id[:12]
    assert task_files(item, task, HOST) == {
        "hosts": f"{LOCAL}10.1.0.5\t{name}\nfd00::5\t{name}\n10.255.0.5\t{name}\n"
        "192.0.2.1\tdb\n2001:db8::1\tdb\n10.0.0.7\tme\n",
        "resolv.conf": "nameserver 127.0.0.11\nsearch a.test b.test\noptions ndots:0\n",
        "hostname": f"{name}\n",
    }
    binds = create_request(item, task, IMAGE, HOST)["HostConfig"]["Binds"]
    assert binds == [f"/data/tasks/{task.id}/{file}:/etc/{file}:z" for file in ("hosts", "resolv.conf", "hostname")]


@pytest.mark.parametrize(
    ("fields", "search", "options"),
    [
        ({}, "home.test", "timeout:2 ndots:0"),
        ({"dns_search": ("a.test",)}, "a.test", "timeout:2 ndots:0"),
        ({"dns_search": (".",)}, "", "timeout:2 ndots:0"),
        ({"dns_options": ("use-vc", "attempts:3")}, "home.test", "use-vc attempts:3 ndots:0"),
        ({"dns_options": ("ndots:2",)}, "home.test", "ndots:2"),
    ],
)
def test_what_a_service_leaves_open_of_its_look_ups_is_as_on_its_node(
    fields: dict[str, Any], search: str, options: str
) -> None:
    item = an_item(**fields)
    host = replace(HOST, resolv_conf=ResolvConf(("192.0.2.53",), ("home.test",), ("timeout:2",)))
    said = task_files(item, a_task(item), host)["resolv.conf"].splitlines()
    assert said == ["nameserver 127.0.0.11", *([f"search {search}"] if search else []), f"options {options}"]


def test_a_file_that_the_user_mounts_himself_is_left_to_him() -> None:
    binds = request(mounts=(Mount("bind", "/etc/hosts", "/srv/hosts"),))["HostConfig"]["Binds"]
    assert [bind.split(":")[1] for bind in binds] == ["/etc/resolv.conf", "/etc/hostname"]


@pytest.mark.parametrize(
    ("check", "image", "expected"),
    [
        pytest.param(None, Image("i"), False, id="nobody asks for one"),
        pytest.param(None, Image("i", healthchecked=True), True, id="the image does"),
        pytest.param(Healthcheck(("NONE",)), Image("i", healthchecked=True), False, id="switched off"),
        pytest.param(Healthcheck(("CMD", "x")), Image("i"), True, id="the service does"),
        pytest.param(Healthcheck((), retries=1), Image("i"), False, id="only its pace is set, and there is none"),
    ],
)
def test_health_is_waited_for_where_it_is_reported(check: Healthcheck | None, image: Image, expected: bool) -> None:
    assert has_healthcheck(ContainerSpec("x", healthcheck=check), image) is expected
