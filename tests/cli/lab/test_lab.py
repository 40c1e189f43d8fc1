"""The lab for real: engines in namespaces, cables, power cuts, and that nothing is left."""

from __future__ import annotations

import os
import pty
import signal
import subprocess
import sys
from pathlib import Path
from uuid import uuid4

import pytest

from cli.lab import Lab, processes, programs
from cli.lab.host import cgroups
from cli.lab.probes import http_ok
from cluster.errors import Conflict, NotFound, Unavailable, UserError
from tests import own
from tests.patience import PATIENCE

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.engine, pytest.mark.timeout(1200)]
STACK = str(Path(sys.prefix) / "bin" / "stack")


def etcd_answers(lab: Lab) -> bool:
    """Asked from the machine, so it goes through the switch."""
    return http_ok(programs.etcd_url(lab.node("n1").layout) + "/health", timeout=5)


def output(lab: Lab, node: str, *argv: str) -> str:
    done = lab.exec(node, argv)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def states(lab: Lab, node: str) -> dict[str, str]:
    [status] = [status for status in lab.status() if status.name == node]
    return {"node": status.state, "link": status.link, **status.programs}


def command(lab: Lab) -> dict[str, str]:
    return os.environ | {"STACKYARD_LAB": lab.layout.name, "STACKYARD_LAB_SUBNET": lab.layout.subnet}


def test_nodes_have_names_processes_and_a_run_of_their_own(lab: Lab) -> None:
    assert output(lab, "n2", "hostname") == "n2"
    assert output(lab, "n2", "cat", "/proc/1/comm") == "tini"
    lab.exec("n2", ["touch", "/run/only-here"])
    assert (lab.node("n2").layout.run_dir / "only-here").exists()
    assert not Path("/run/only-here").exists()
    assert lab.exec("n1", ["test", "-e", "/run/only-here"]).returncode == 1
    assert output(lab, "n1", "getent", "hosts", "n2").split() == [lab.layout.address(2), "n2"]


def test_a_mount_by_one_program_of_a_node_is_seen_by_the_others_and_not_by_the_machine(lab: Lab) -> None:
    make = "ip netns add sy-seen && ip -n sy-seen link set lo up"
    assert lab.exec("n1", ["sh", "-c", make]).returncode == 0
    engine = supervised(lab, "n1", "engine").pid
    assert " /run/netns/sy-seen " in Path(f"/proc/{engine}/mountinfo").read_text()
    assert "sy-seen" not in Path("/proc/self/mountinfo").read_text()
    assert lab.exec("n1", ["ip", "netns", "del", "sy-seen"]).returncode == 0


def supervised(lab: Lab, node: str, program: str) -> processes.Process:
    from cli.lab import supervise

    process = supervise.find(lab.node(node), program)
    assert process is not None
    return process


def test_no_namespace_of_the_machine_is_held_by_a_node(lab: Lab) -> None:
    mounts = output(lab, "n1", "cat", "/proc/self/mountinfo")
    assert lab.layout.prefix not in mounts


def test_two_engines_pull_an_image_from_the_registry_as_from_docker_hub(lab: Lab) -> None:
    lab.ensure_images()
    for node in ("n1", "n2"):
        ran = lab.exec(node, ["docker", "run", "--rm", "--network=none", "busybox:1", "echo", "hello"])
        assert (ran.returncode, ran.stdout) == (0, "hello\n"), ran.stderr


def test_an_image_is_built_once_and_again_when_its_files_change(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "compose.yml").write_text("services: {a: {image: 'tlab-image:1', build: .}}")
    (tmp_path / "Dockerfile").write_text("FROM busybox:1\nCOPY word /word\nCMD cat /word\n")
    for word in ("first", "second"):
        (tmp_path / "word").write_text(f"{tmp_path.name} {word}")
        assert lab.build(tmp_path / "compose.yml") == ["tlab-image:1"]
        assert lab.build(tmp_path / "compose.yml") == []
        assert processes.census(lab.layout.name, "builder") == []
        run = ["docker", "run", "--rm", "--pull=always", "--network=none", "tlab-image:1"]
        assert lab.exec("n1", run).stdout.endswith(f"{tmp_path.name} {word}")


def test_a_cut_node_is_out_of_reach_until_it_is_healed(lab: Lab) -> None:
    assert etcd_answers(lab)
    lab.cut("n1")
    assert not etcd_answers(lab)
    assert states(lab, "n1") == {"node": "up", "link": "cut", "engine": "up", "etcd": "up"}
    lab.heal("n1")
    assert processes.wait_until(lambda: etcd_answers(lab), PATIENCE)
    assert states(lab, "n1")["link"] == "up"


def test_a_killed_node_comes_back_with_its_disk_and_without_its_memory(lab: Lab) -> None:
    lab.ensure_images()
    made = lab.exec("n2", ["docker", "run", "-d", "--name", "kept", "--network=none", "busybox:1", "sleep", "1000"])
    assert made.returncode == 0, made.stderr
    lab.exec("n2", ["ip", "netns", "add", "sy-forgotten"])
    lab.kill("n2")
    assert states(lab, "n2") == {"node": "down", "link": "down", "engine": "down"}
    assert processes.census(lab.layout.name, "n2") == []
    assert not lab.engine_socket("n2").exists()
    with pytest.raises(Unavailable, match="n2 is not up"):
        lab.exec("n2", ["true"])
    lab.start("n2")
    assert states(lab, "n2") == {"node": "up", "link": "up", "engine": "up"}
    assert output(lab, "n2", "docker", "inspect", "--format", "{{.State.Status}}", "kept") == "exited"
    assert "sy-forgotten" not in output(lab, "n2", "ls", "/run/netns")
    lab.exec("n2", ["docker", "rm", "-f", "kept"])


def test_programs_are_paused_killed_and_started_one_by_one(lab: Lab) -> None:
    lab.pause("n1", "engine")
    assert states(lab, "n1")["engine"] == "paused"
    lab.unpause("n1", "engine")
    assert states(lab, "n1")["engine"] == "up"
    lab.kill("n1", "etcd")
    assert states(lab, "n1") == {"node": "up", "link": "up", "engine": "up", "etcd": "down"}
    lab.kill("n1", "engine")
    with pytest.raises(Unavailable):
        lab.signal("n1", "engine", signal.SIGTERM)
    lab.start("n1", "engine")
    lab.pause("n1", "engine")
    lab.stop("n1", "engine")
    assert states(lab, "n1")["engine"] == "down"
    lab.up()
    assert states(lab, "n1") == {"node": "up", "link": "up", "engine": "up", "etcd": "up"}
    with pytest.raises(NotFound, match="no program docker"):
        lab.kill("n1", "docker")


def test_a_manager_belongs_only_on_the_nodes_that_are_managers(lab: Lab) -> None:
    with pytest.raises(UserError, match="n2 is no manager"):
        lab.start("n2", "etcd")


def test_a_node_is_stopped_in_order_and_up_brings_it_back_with_all_that_was_up_untouched(lab: Lab) -> None:
    before = supervised(lab, "n1", "engine")
    lab.stop("n2")
    assert states(lab, "n2")["node"] == "down"
    lab.up()
    assert states(lab, "n2")["engine"] == "up"
    assert supervised(lab, "n1", "engine") == before


def test_a_dead_namespace_or_link_is_made_anew_by_up(lab: Lab) -> None:
    processes.run(["ip", "netns", "del", lab.layout.namespace("n2")])
    processes.run(["ip", "link", "del", lab.layout.machine_link])
    assert states(lab, "n2")["node"] == "down"
    lab.up()
    assert states(lab, "n2") == {"node": "up", "link": "up", "engine": "up"}
    assert etcd_answers(lab)


@pytest.mark.parametrize("code", [0, 7])
def test_exec_passes_the_exit_code_on(lab: Lab, code: int) -> None:
    done = subprocess.run([STACK, "lab", "exec", "n1", "--", "sh", "-c", f"exit {code}"], env=command(lab))
    assert done.returncode == code


def test_exec_keeps_the_terminal(lab: Lab) -> None:
    ours, theirs = pty.openpty()
    try:
        words = [STACK, "lab", "exec", "n1", "--", "sh", "-c", "[ -t 0 ] && [ -t 1 ] && hostname"]
        done = subprocess.run(words, env=command(lab), stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        assert os.read(ours, 100).strip() == b"n1"
    finally:
        os.close(ours)
    assert done.returncode == 0


def test_another_lab_on_the_same_network_is_refused(lab: Lab) -> None:
    other = Lab(own.place(own.KILLED)[0], lab.layout.subnet)
    try:
        with pytest.raises(Conflict, match="overlaps the lab's network"):
            other.up(nodes=1, programs=["engine"])
    finally:
        other.down()


def kill_at(moment: str, lab: Lab, config: Path, *words: str) -> None:
    """SIGKILL a lab command when it says that line."""
    environment = command(lab) | {"XDG_CONFIG_HOME": str(config)}
    with subprocess.Popen([STACK, "lab", *words], env=environment, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        for line in running.stderr:
            if line.startswith(moment):
                break
        running.kill()


@pytest.mark.parametrize("moment", ["ending the lab's processes", "removing the nodes' data"])
def test_a_killed_down_is_completed_by_the_next(moment: str, tmp_path: Path) -> None:
    lab = Lab(*own.place(own.KILLED))
    lab.up(nodes=2, programs=["engine"])
    kill_at(moment, lab, tmp_path, "down")
    lab.down()
    assert lab.leftovers() == []


@pytest.mark.parametrize("moment", ["starting the image registry", "switching on", "starting engine", "its end"])
def test_a_killed_up_is_completed_by_the_next_and_leaves_nothing_after_down(moment: str, tmp_path: Path) -> None:
    lab = Lab(*own.place(own.KILLED))
    lab.down()
    try:
        kill_at(moment, lab, tmp_path, "up", "--nodes", "2", "--programs", "engine")
        assert lab.leftovers()
        lab.up(nodes=2)
        assert [status.programs for status in lab.status()] == [{"engine": "up"}, {"engine": "up"}]
    finally:
        lab.down()
    assert lab.leftovers() == []


def building(lab: Lab) -> bool:
    """Whether the builder runs a container for a step of a build."""
    steps = [path for top in cgroups(lab.layout.namespace("builder")) for path in top.glob("*/cgroup.procs")]
    return any(path.read_text() for path in steps)


def test_a_killed_build_is_cleaned_up_by_down(tmp_path: Path) -> None:
    lab = Lab(*own.place(own.KILLED))
    lab.down()
    (tmp_path / "compose.yml").write_text("services: {a: {image: 'tkill-image:1', build: .}}")
    (tmp_path / "Dockerfile").write_text(f"FROM busybox:1\nRUN echo {uuid4()} && sleep 300\n")  # never built before
    try:
        lab.up(nodes=1, programs=["engine"])
        lab.ensure_images()
        words = [STACK, "lab", "build", "-f", str(tmp_path / "compose.yml")]
        with subprocess.Popen(words, env=command(lab), stderr=subprocess.DEVNULL) as build:
            try:
                assert processes.wait_until(lambda: building(lab), PATIENCE)
            finally:
                build.kill()
        assert any(left.startswith("process") and "builder" in left for left in lab.leftovers())
    finally:
        lab.down()
    assert lab.leftovers() == []
