"""Hosts of one's own, with systemd: made members of a cluster by the commands in the README, and taken out again."""

from __future__ import annotations

import io
import json
import re
import tarfile
import urllib.request
from collections.abc import Iterator

import pytest

from tests import own
from tests.integration.conftest import STACKS, eventually
from tests.machines import Machine, installation, machines

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.engine, pytest.mark.etcd, pytest.mark.timeout(1200)]

OURS = ("/etc", "/opt", "/root", "/usr", "/var/lib")
NOT_OURS = re.compile(r"^/(var/lib/(docker|containerd|systemd|dbus|dhcp)|etc/(docker/key.json|machine-id|mtab|\.))")
AGENT, MANAGER = "stackyard-agent", "stackyard-manager"


@pytest.fixture
def hosts(request: pytest.FixtureRequest) -> Iterator[list[Machine]]:
    """As many new hosts as the test asks for."""
    with machines(*own.place(own.HOSTS), request.param, installation()) as made:
        yield made


def files(host: Machine) -> dict[str, str]:
    """What a host has on its disk, with mode, owner and digest, where a member could have left something."""
    listed = host.run(
        "find", *OURS, "-xdev", "(", "-path", "/var/lib/docker", "-o", "-path", "/root/.pyenv", ")", "-prune",
        "-o", "(", "-type", "f", "-o", "-type", "l", ")", "-printf", r"%p\t%M %u %g %s %l\n",
    ).stdout  # fmt: skip
    found = dict(line.split("\t", 1) for line in listed.splitlines())
    return {path: about for path, about in found.items() if not NOT_OURS.match(path)}


def changed(before: dict[str, str], after: dict[str, str]) -> dict[str, tuple[str | None, str | None]]:
    paths = sorted({*before, *after})
    return {path: (before.get(path), after.get(path)) for path in paths if before.get(path) != after.get(path)}


def kernel(host: Machine) -> dict[str, list[str]]:
    """What a host has in its kernel and its engine."""
    runtimes = sorted(json.loads(host.run("docker", "info", "--format", "{{json .Runtimes}}").stdout))
    return {
        "links": [line.split()[0].split("@")[0] for line in host.run("ip", "-br", "link").stdout.splitlines()],
        "namespaces": host.run(
            "sh", "-c", "ls -A /run/stackyard 2>&1 || true; ls -A /run/netns 2>/dev/null || true"
        ).stdout.split(),
        "units": host.run("systemctl", "list-units", "--all", "--no-legend", "stackyard*").stdout.split(),
        "processes": [line for line in host.run("ps", "ax").stdout.splitlines() if "stack-" in line],
        # at a reload the engine forgets the names of its own shims, until it starts again; nobody uses them
        "runtimes": [name for name in runtimes if not name.startswith("io.containerd.")],
        "containers": host.run("docker", "ps", "-aq").stdout.split(),
    }


def give_image(host: Machine) -> None:
    """An image of nothing but busybox, as the hosts' network leads to no registry."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w") as tar:
        tar.add("/bin/busybox", "bin/busybox")
    host.run("docker", "import", "-", "box:1", stdin=data.getvalue())


def write(host: Machine, path: str, text: str, mode: int = 0o644) -> None:
    host.run("sh", "-c", 'cat >"$1" && chmod "$2" "$1"', "write", path, oct(mode)[2:], stdin=text.encode())


def await_manager(host: Machine) -> None:
    host.until(lambda: host.run("stack", "node", "ls", code=None).returncode == 0, "its manager does not come back")


def restart_engine(host: Machine) -> None:
    host.run("systemctl", "reset-failed", "docker")  # or systemd thinks that it fails again and again
    host.run("systemctl", "restart", "docker")


def hello(host: Machine) -> str:
    with urllib.request.urlopen(f"http://{host.address}:8080/", timeout=60) as answer:
        text: str = answer.read().decode().strip()
        return text


def containers(host: Machine) -> set[str]:
    return set(host.run("docker", "ps", "-q").stdout.split())


def main_pid(host: Machine, unit: str) -> str:
    return host.run("systemctl", "show", "-P", "MainPID", unit).stdout.strip()


def sandboxes(host: Machine, unit: str) -> set[str]:
    """Namespaces of tasks that are mounted where a program of the host sees them."""
    mounts = host.run("cat", f"/proc/{main_pid(host, unit)}/mountinfo").stdout.splitlines()
    points = [mount.split()[4] for mount in mounts if " - nsfs " in mount]
    return {point for point in points if point.startswith("/run/netns/sy-")}


def statuses(manager: Machine) -> dict[str, str]:
    return {
        node["name"]: node["status"]
        for node in json.loads(manager.run("stack", "node", "ls", "--format", "json").stdout)
    }


@pytest.mark.parametrize("hosts", [3], indirect=True)
def test_a_cluster_of_three_hosts_from_nothing_to_nothing(hosts: list[Machine]) -> None:
    first, second, third = hosts
    before = {host.name: (files(host), kernel(host)) for host in hosts}

    # one command a host
    done = first.run("stack", "init", "--advertise", first.address, "--autolock")
    [unlock_key] = re.findall(r"SYUNLOCK-1-[0-9a-f]{64}", done.stdout)
    [command] = re.findall(r"^ +(stack join .+)$", done.stdout, re.MULTILINE)
    second.run(*command.split())
    token = first.run("stack", "token", "create", "--once", "--expires", "1h").stdout.strip()
    third.run("stack", "join", token, first.address)
    assert statuses(first) == {"n1": "ready", "n2": "ready", "n3": "ready"}
    assert first.run("stack", "token", "ls").stdout.count("has used it") == 1

    # once more changes nothing
    members = {host.name: files(host) for host in hosts}
    pids = [main_pid(first, MANAGER), *(main_pid(host, AGENT) for host in hosts)]
    assert "nothing was changed" in first.run("stack", "init", "--advertise", first.address).stdout
    assert "nothing was changed" in second.run(*command.split()).stdout
    assert pids == [main_pid(first, MANAGER), *(main_pid(host, AGENT) for host in hosts)]
    for host in hosts:
        alive = ("/manager/etcd/", "/agent/journal.json")  # which their programs write to at any time
        assert not [path for path in changed(members[host.name], files(host)) if not any(one in path for one in alive)]

    # it works
    for host in hosts:
        give_image(host)
    write(first, "/root/hello.yml", (STACKS / "hello.yml").read_text())
    first.run("stack", "deploy", "-f", "/root/hello.yml", "hello")
    for host in hosts:
        assert len({hello(host) for _ in range(12)}) > 1

    # nobody else on the host reads what its programs keep
    for host in hosts:
        found = host.run(
            "sh", "-c", "cd /var/lib/stackyard; find agent manager -name tasks -prune -o -perm /077 -print", code=None
        )
        assert found.stdout == "" and host.run("test", "-s", "/var/lib/stackyard/agent/key.pem").returncode == 0

    # the programs live in the host's mount namespace, and containers do not live in theirs
    running = {host.name: containers(host) for host in hosts}
    assert [len(found) for found in running.values()] == [2, 2, 2]
    for host in hosts:
        own = host.run("readlink", "/proc/1/ns/mnt", f"/proc/{main_pid(host, AGENT)}/ns/mnt").stdout.split()
        assert own[0] == own[1]
        host.run("systemctl", "kill", "--signal=KILL", AGENT)
        host.run("systemctl", "restart", AGENT)
    first.run("systemctl", "restart", MANAGER)
    first.until(lambda: "is locked" in first.run("stack", "node", "ls", code=None).stderr, "it does not start locked")
    first.run("stack", "unlock", stdin=unlock_key.encode())
    await_manager(first)
    eventually(lambda: set(statuses(first).values()) == {"ready"}, "the agents come back")
    assert {host.name: containers(host) for host in hosts} == running
    assert hello(second)

    # the CA is rotated without a host whose agent is off; it is taken in again
    third.run("systemctl", "stop", AGENT)
    waits = first.run("stack", "ca", "rotate", code=1)
    assert "node n3: it is not connected" in waits.stderr and "certificate" not in waits.stderr
    eventually(  # after its manager's restart an agent may take some seconds to dial, and would be left out, too
        lambda: not {"node n1:", "node n2:"} & set(re.findall(r"node n\d:", first.run("stack", "ca").stdout)),
        "all others have certificates of the new root",
    )
    first.run("stack", "ca", "finish", "--force")
    third.run("systemctl", "start", AGENT)
    third.until(
        lambda: "takes it in again" in third.run("journalctl", "-u", AGENT, "--no-pager").stdout,
        "it does not say what is to be done",
    )
    other = first.run("stack", "token", "show").stdout.strip()
    assert "again" in third.run("stack", "join", other, first.address).stdout
    assert statuses(first) == {"n1": "ready", "n2": "ready", "n3": "ready"}
    assert "nothing was changed" in third.run("stack", "join", other, first.address).stdout

    # out again: tasks move first, and the host is as it was
    third.run("stack", "leave")
    assert statuses(first) == {"n1": "ready", "n2": "ready"}
    assert changed(before["n3"][0], files(third)) == {} and kernel(third) == before["n3"][1]
    assert len(containers(first)) + len(containers(second)) == 6 and hello(first)
    assert "nothing was changed" in third.run("stack", "leave").stdout
    refused = first.run("stack", "leave", code=2)
    assert "only etcd" in refused.stderr and "--force" in refused.stderr
    second.run("stack", "leave")
    first.run("stack", "leave", "--force")
    first.run("rm", "/root/hello.yml")
    for host in hosts:
        assert changed(before[host.name][0], files(host)) == {} and kernel(host) == before[host.name][1]


@pytest.mark.parametrize("hosts", [2], indirect=True)
def test_what_goes_wrong_leaves_the_host_as_it_was_and_is_gone_on_from(hosts: list[Machine]) -> None:
    first, second = hosts
    first.run("stack", "init", "--advertise", first.address)
    token = first.run("stack", "token", "show").stdout.strip()

    def refused(*words: str, code: int = 2) -> str:
        return second.run("stack", "join", *words, first.address, code=code).stderr

    # a file that the engine would choke on
    broken = '{\n  "log-level": "warn",\n}\n'
    write(second, "/etc/docker/daemon.json", broken)
    assert "/etc/docker/daemon.json:3: " in refused(token)
    assert second.run("cat", "/etc/docker/daemon.json").stdout == broken
    assert second.run("sh", "-c", "ls -A /var/lib/stackyard 2>/dev/null || true").stdout == ""

    # a token that is wrong, and one for something else: nothing of the engine is touched
    kept = '{\n    "log-level": "warn"\n}\n'
    write(second, "/etc/docker/daemon.json", kept, 0o640)
    assert "not valid" in refused(token[:-1] + ("0" if token[-1] != "0" else "1"))
    assert "is for a manager" in refused(first.run("stack", "token", "show", "manager").stdout.strip())
    assert "no join token" in refused("SWMTKN-1-abc")
    assert "--manager" in second.run("stack", "join", "--help").stdout
    assert second.run("cat", "/etc/docker/daemon.json").stdout == kept

    # an engine that would forget a runtime, and one that does not take the file, which is put back
    write(second, "/etc/default/docker", 'DOCKER_OPTS="--add-runtime other=/usr/sbin/runc"\n')
    restart_engine(second)
    assert "has the runtime other" in refused(token)
    write(second, "/etc/default/docker", 'DOCKER_OPTS="--log-level warn"\n')
    second.run("rm", "/etc/docker/daemon.json")
    restart_engine(second)
    write(second, "/etc/docker/daemon.json", kept, 0o640)
    assert "as it was again" in refused(token, code=1)
    assert second.run("cat", "/etc/docker/daemon.json").stdout == kept
    write(second, "/etc/default/docker", "")
    restart_engine(second)

    # what was begun is gone on from, and the engine was told, not restarted
    engine = main_pid(second, "docker")
    second.run("stack", "join", token, first.address)
    assert main_pid(second, "docker") == engine
    made = json.loads(second.run("cat", "/etc/docker/daemon.json").stdout)
    assert made["log-level"] == "warn" and set(made["runtimes"]) == {"stackyard"}
    assert second.run("stat", "-c", "%a", "/etc/docker/daemon.json").stdout == "640\n"
    assert statuses(first) == {"n1": "ready", "n2": "ready"}

    # a node without its managers can leave by force, which the cluster sees as a node that is down
    first.run("systemctl", "stop", MANAGER)
    assert "do not answer" in second.run("stack", "leave", code=3).stderr
    second.run("stack", "leave", "--force")
    assert second.run("cat", "/etc/docker/daemon.json").stdout == kept
    assert second.run("stat", "-c", "%a", "/etc/docker/daemon.json").stdout == "640\n"
    first.run("systemctl", "start", MANAGER)
    await_manager(first)

    # and a host may come back under the name that it had, once it counts as down
    eventually(lambda: statuses(first)["n2"] in ("down", "agent-lost"), "the node is missed")
    eventually(
        lambda: second.run("stack", "join", token, first.address, code=None).returncode == 0,
        "it joins again",
    )
    assert statuses(first) == {"n1": "ready", "n2": "ready"}


def started(host: Machine, said: str) -> str:
    """Run what a command has said that must be kept running; gives the program's name."""
    [command] = re.findall(r"^ +(\S+/stack-(?:manager|agent) .+)$", said, re.MULTILINE)
    host.run("setsid", "--fork", "sh", "-c", f"exec {command} >/dev/null 2>&1")
    return str(re.findall(r"/(stack-\w+) ", command)[0])


def end(host: Machine, program: str) -> None:
    listed = host.run("ps", "ax", "-o", "pid=,args=").stdout.splitlines()
    [pid] = [line.split()[0] for line in listed if f"/{program} " in line]
    host.run("kill", pid)
    host.until(lambda: host.run("kill", "-0", pid, code=None).returncode, f"{program} does not end")


@pytest.mark.parametrize("hosts", [1], indirect=True)
def test_without_systemd_the_programs_are_run_by_hand(hosts: list[Machine]) -> None:
    [host] = hosts
    before = files(host), kernel(host)
    init = ("stack", "init", "--advertise", host.address, "--no-systemd")

    said = host.run(*init).stdout
    assert "run `stack init` again" in said
    assert started(host, said) == "stack-manager"
    host.until(lambda: "stack-agent" in (said := host.run(*init).stdout) and started(host, said), "no manager came up")
    host.until(lambda: statuses(host) == {host.name: "ready"}, "the agent does not come")
    assert "nothing was changed" in host.run(*init).stdout
    assert host.run("systemctl", "list-units", "--all", "--no-legend", "stackyard*").stdout == ""

    assert "the agent of this host still runs" in host.run("stack", "leave", "--force", code=2).stderr
    end(host, "stack-agent")
    assert "the manager of this host still runs" in host.run("stack", "leave", "--force", code=2).stderr
    end(host, "stack-manager")
    host.run("stack", "leave", "--force")
    assert changed(before[0], files(host)) == {} and kernel(host) == before[1]


@pytest.mark.parametrize("hosts", [1], indirect=True)
def test_a_host_that_lost_power_comes_back_as_the_node_that_it_was(hosts: list[Machine]) -> None:
    [host] = hosts
    bare = kernel(host)
    host.run("stack", "init", "--advertise", host.address)
    for unit in (AGENT, MANAGER):
        assert host.run("systemd-analyze", "verify", f"/etc/systemd/system/{unit}.service").stderr == ""
    give_image(host)
    write(host, "/root/hello.yml", (STACKS / "hello.yml").read_text())
    write(host, "/root/word", "psst")
    secret = "services: {hello: {secrets: [word]}}\nsecrets: {word: {file: /root/word}}\n"
    write(host, "/root/secret.yml", secret)
    host.run("stack", "deploy", "-f", "/root/hello.yml", "-f", "/root/secret.yml", "hello")
    before = containers(host)
    assert len(before) == 6

    host.cut_power()
    host.boot()
    await_manager(host)
    host.until(lambda: statuses(host) == {host.name: "ready"}, "its agent does not come back")
    host.until(lambda: len(containers(host)) == 6, "its containers do not come back")
    assert containers(host) == before, host.run("stack", "ps", "hello", "--all").stdout
    eventually(lambda: hello(host), "the port is published again")

    # the manager is confined, and its copy of the host's mounts keeps nothing of what the agent has removed
    host.run("systemd-analyze", "security", "--no-pager", "--threshold=25", MANAGER)
    host.run("systemctl", "restart", MANAGER)
    await_manager(host)
    assert len(sandboxes(host, MANAGER)) > 1
    host.run("stack", "scale", "hello_hello=1")
    host.until(lambda: len(sandboxes(host, AGENT)) == 1, "sandboxes do not go")
    assert sandboxes(host, MANAGER) == sandboxes(host, AGENT)

    host.run("stack", "leave", "--force")
    assert kernel(host) == bare
    assert "stackyard" not in host.run("findmnt", "--noheadings", "--raw", "--output", "TARGET").stdout
