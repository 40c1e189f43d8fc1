from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.container import (
    Event,
    Host,
    Image,
    Observed,
    Phase,
    container_name,
    create_request,
    fold,
    has_healthcheck,
    image_from,
    observe,
    started,
    task_files,
)
from cluster.model.container import ContainerSpec, Healthcheck, Logging, Mount, Ulimit
from cluster.model.network import Endpoint
from cluster.model.service import Resources
from cluster.model.volume import VolumeSpec
from tests.agent.builders import CLUSTER, a_task, an_item

HOST = Host(CLUSTER, "/data/tasks", "10.0.0.7", (1, 41))
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
            {"healthcheck": Healthcheck(("CMD", "true"), interval=0.5, timeout=1.0, retries=2, start_interval=1.0)},
            "Healthcheck",
            {"Test": ["CMD", "true"], "Interval": 500_000_000, "Timeout": 1_000_000_000, "Retries": 2},
            id="health check, without what this engine does not know",
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


def test_a_newer_engine_is_told_the_start_interval() -> None:
    check = Healthcheck(("CMD", "true"), start_interval=1.0)
    body = request(host=replace(HOST, api=(1, 44)), healthcheck=check)
    assert body["Healthcheck"]["StartInterval"] == 1_000_000_000


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


def test_files_of_the_network_are_the_agents_own() -> None:
    item = an_item(extra_hosts=(("db", "192.0.2.1"), ("me", "host-gateway")), dns_search=("a.test", "b.test"))
    task = replace(a_task(item), endpoints=(Endpoint("n", ("10.1.0.5", "fd00::5")),))
    name = task.id[:12]
    assert task_files(item, task, HOST) == {
        "hosts": "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"
        f"10.1.0.5\t{name}\nfd00::5\t{name}\n192.0.2.1\tdb\n10.0.0.7\tme\n",
        "resolv.conf": "nameserver 127.0.0.11\nsearch a.test b.test\noptions ndots:0\n",
        "hostname": f"{name}\n",
    }
    binds = create_request(item, task, IMAGE, HOST)["HostConfig"]["Binds"]
    assert binds == [f"/data/tasks/{task.id}/{file}:/etc/{file}:z" for file in ("hosts", "resolv.conf", "hostname")]


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


def test_what_an_image_says_of_itself_is_read() -> None:
    config = {"Healthcheck": {"Test": ["CMD", "true"]}, "Entrypoint": ["/e"]}
    assert image_from({"Id": "sha256:1", "Config": config}) == Image("sha256:1", True, ("/e",))
    assert image_from({"Id": "sha256:2", "Config": None}) == Image("sha256:2")


def inspected(**state: Any) -> dict[str, Any]:
    return {
        "Id": "c1",
        "Config": {"Labels": {"com.stackyard.task": "t1"}},
        "State": {
            "Status": "running",
            "OOMKilled": False,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "1970-01-01T00:01:40.5Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            **state,
        },
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param({}, Observed("c1", "t1", Phase.RUNNING, started_at=100.5, inspected=True), id="running"),
        pytest.param(
            {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"},
            Observed("c1", "t1", Phase.CREATED, inspected=True),
            id="never started",
        ),
        pytest.param(
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "FinishedAt": "1970-01-01T01:03:20.25+01:00"},
            Observed("c1", "t1", Phase.EXITED, 137, True, "", 100.5, 200.25, inspected=True),
            id="killed for its memory",
        ),
        pytest.param(
            {"Health": {"Status": "starting"}},
            Observed("c1", "t1", Phase.RUNNING, health="starting", started_at=100.5, inspected=True),
            id="health check has not decided",
        ),
        pytest.param(
            {"Status": "paused"},
            Observed("c1", "t1", Phase.RUNNING, started_at=100.5, inspected=True),
            id="paused by a person, so it still runs",
        ),
        pytest.param(
            {"Status": "removing", "ExitCode": 1},
            Observed("c1", "t1", Phase.DEAD, 1, started_at=100.5, inspected=True),
            id="being removed",
        ),
    ],
)
def test_inspect_answers_are_read(state: dict[str, Any], expected: Observed) -> None:
    assert observe(inspected(**state)) == expected


NEW = Observed("c1", "t1", Phase.CREATED, health="starting")
UP = Observed("c1", "t1", Phase.RUNNING, health="starting", started_at=10.0)


def event(action: str, at: float, **attributes: str) -> Event:
    return Event(action, "c1", at, attributes)


@pytest.mark.parametrize(
    ("seen", "what", "expected"),
    [
        pytest.param(NEW, event("start", 10.0), UP, id="it starts, and its health is open"),
        pytest.param(
            UP,
            event("die", 11.0, exitCode="3"),
            replace(UP, phase=Phase.EXITED, exit_code=3, finished_at=11.0),
            id="it dies with its exit code",
        ),
        pytest.param(UP, event("health_status: healthy", 11.0), replace(UP, health="healthy"), id="it is healthy"),
        pytest.param(UP, event("oom", 11.0), replace(UP, oom=True), id="it runs out of memory"),
        pytest.param(UP, event("destroy", 11.0), None, id="it is removed"),
        pytest.param(UP, event("die", 9.0, exitCode="1"), UP, id="the end of an earlier run says nothing of this one"),
        pytest.param(UP, event("exec_start: sh", 11.0), UP, id="somebody looks into it"),
        pytest.param(
            Observed("c1", "t1", Phase.EXITED, 1, True, "unhealthy", 1.0, 2.0, inspected=True),
            event("start", 10.0),
            UP,
            id="a new run starts with nothing of the last one",
        ),
    ],
)
def test_events_bring_what_is_known_up_to_date(seen: Observed, what: Event, expected: Observed | None) -> None:
    assert fold(seen, what) == expected


def test_an_answer_to_start_and_the_events_agree_in_any_order() -> None:
    begun, start, die = 9.9, event("start", 10.0), event("die", 10.5, exitCode="0")
    answered_first = fold(fold(started(NEW, begun), start) or NEW, die)
    events_first = fold(fold(NEW, start) or NEW, die)
    assert answered_first == events_first
    assert answered_first is not None and answered_first.phase is Phase.EXITED
