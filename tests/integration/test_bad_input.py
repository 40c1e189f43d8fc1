"""What goes wrong is said clearly, ends with the right exit code, and leaves nothing half done."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("services: [", ["c.yml:1", "expected"], id="a file that is not YAML"),
        pytest.param("just words", ["c.yml:1"], id="YAML that is no Compose file"),
        pytest.param(
            "services:\n  web:\n    image: busybox:1\n    imagee: x\n",
            ["c.yml:4", "services.web.imagee"],
            id="an unknown key",
        ),
        pytest.param("services:\n  web:\n    command: ls\n", ["services.web", "image"], id="a service without image"),
        pytest.param(
            "services:\n  web: {image: 'busybox:1', networks: [nope]}\n", ["nope"], id="a network that is not declared"
        ),
        pytest.param(
            "services:\n  web: {image: 'busybox:1', ports: ['99999:80']}\n", ["99999"], id="a port that cannot be"
        ),
    ],
)
def test_a_file_that_cannot_be_used_is_refused(
    cluster: Cluster, probe: str, tmp_path: Path, text: str, told: list[str]
) -> None:
    (tmp_path / "c.yml").write_text(text)
    done = cluster.stack("deploy", "-f", str(tmp_path / "c.yml"), "refused", code=2)
    for part in told:
        assert part in done.stderr, done.stderr
    assert "refused" not in [stack["name"] for stack in cluster.listing("ls")]


def test_names_that_are_not_there(cluster: Cluster) -> None:
    for words in (["rm", "nope"], ["scale", "nope=2"], ["logs", "nope"], ["ps", "nope"], ["services", "nope"]):
        done = cluster.stack(*words, code=2)
        assert "there is no" in done.stderr and "nope" in done.stderr
    assert "SERVICE=N" in cluster.stack("scale", "web", code=2).stderr
    assert "no such file" in cluster.stack("deploy", "-f", "/nowhere/compose.yml", code=2).stderr


def test_a_port_that_another_stack_publishes(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text("services: {web: {image: 'stackyard-probe:1', ports: ['8070:8000']}}")
    cluster.deploy(tmp_path / "c.yml", probe)
    done = cluster.deploy(tmp_path / "c.yml", "second", code=2)
    assert "8070" in done.stderr and f"{probe}_web" in done.stderr
    assert "second" not in [stack["name"] for stack in cluster.listing("ls")]
    assert cluster.get("n1", 8070)


def test_an_image_that_is_not_there(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    (tmp_path / "c.yml").write_text(
        "services: {web: {image: 'no-such-image:1', deploy: {restart_policy: {max_attempts: 1}}}}"
    )
    done = cluster.stack("deploy", "-f", str(tmp_path / "c.yml"), "--timeout", "60", probe, code=1)
    assert "no-such-image:1" in done.stderr
    assert [t for t in cluster.listing("ps", probe) if t["state"] == "rejected"]


def test_no_manager_and_no_etcd(cluster: Cluster) -> None:
    cluster.lab.stop("n1", "manager")
    try:
        done = cluster.stack("ls", code=3)
        assert "no manager answers" in done.stderr
    finally:
        cluster.lab.start("n1", "manager")
    eventually(lambda: cluster.stack("ls", code=None).returncode == 0, "the manager answers again")
    cluster.lab.signal("n1", "etcd", signal.SIGSTOP)
    try:
        eventually(lambda: cluster.stack("ls", code=None).returncode == 3, "requests are refused")
        assert "etcd" in cluster.stack("ls", code=3).stderr
    finally:
        cluster.lab.signal("n1", "etcd", signal.SIGCONT)
    eventually(lambda: cluster.stack("ls", code=None).returncode == 0, "etcd is back")


def test_an_engine_that_cannot_take_the_runtime(cluster: Cluster) -> None:
    config = cluster.lab.layout.node("n3").data_dir / "daemon.json"
    try:
        config.write_text(config.read_text().replace('"stackyard": {', '"other": {'))
        cluster.lab.signal("n3", "engine", signal.SIGHUP)
        cluster.lab.stop("n3", "agent")
        cluster.lab.start("n3", "agent")
        [conditions] = eventually(
            lambda: [c for n in cluster.listing("node", "ls") if "runtime" in (c := n["conditions"])],
            "the node says what is wrong",
        )
        assert "daemon.json" in conditions["runtime"] and "reload" in conditions["runtime"]
    finally:
        cluster.lab.stop("n3", "engine")
        cluster.lab.start("n3", "engine")  # which writes daemon.json anew
    eventually(lambda: not any(n["conditions"] for n in cluster.listing("node", "ls")), "and that it is well again")
