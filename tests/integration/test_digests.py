"""An image that is built anew under its tag: the next deploy runs it, and a rollback runs the one of before."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.conftest import Cluster

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

APP = """
services:
  web:
    image: "moving:1"
    build: .
    deploy: {replicas: 2, update_config: {parallelism: 0, monitor: 0s}, rollback_config: {monitor: 0s}}
  other:
    image: "busybox:1"
    command: ["sleep", "100000"]
    init: true
"""


def build(cluster: Cluster, folder: Path, text: str) -> None:
    (folder / "compose.yml").write_text(APP)
    (folder / "Dockerfile").write_text(
        f'FROM busybox:1\nRUN echo {text} >/version\nENTRYPOINT []\nCMD ["sleep", "100000"]\nSTOPSIGNAL SIGKILL\n'
    )
    cluster.stack("lab", "build", "-f", str(folder / "compose.yml"), timeout=200)


def running(cluster: Cluster, stack: str) -> dict[str, set[str]]:
    """What the tasks of web have in them, with their ids."""
    found: dict[str, set[str]] = {}
    for task in cluster.tasks(f"{stack}_web"):
        version = cluster.docker(task["node"], "exec", task["container"], "cat", "/version").strip()
        found.setdefault(version, set()).add(task["id"])
        shown = cluster.docker(task["node"], "ps", "--filter", f"id={task['container']}", "--format", "{{.Image}}")
        assert shown.strip() == "moving:1", "the tag as it was written"
    return found


def test_a_tag_that_moves(cluster: Cluster, probe: str, tmp_path: Path) -> None:
    def deploy(*options: str) -> str:
        return cluster.stack("deploy", "-f", str(tmp_path / "compose.yml"), *options, probe).stderr

    build(cluster, tmp_path, "one")
    assert "looked up" not in deploy()
    first, [other] = running(cluster, probe), cluster.tasks(f"{probe}_other")
    assert list(first) == ["one"]
    assert "is like that already (revision 1)" in deploy(), "the same image"

    build(cluster, tmp_path, "two")
    assert "is like that already (revision 1)" in deploy("--resolve-image", "never")
    assert "is like that already (revision 1)" in deploy("--resolve-image", "changed")
    assert running(cluster, probe) == first

    deploy()
    assert list(running(cluster, probe)) == ["two"]
    revisions = cluster.listing("history", probe)
    assert len(revisions[0]["changes"]) == 1
    assert revisions[0]["changes"][0].startswith("web: image moving:1 is now sha256:")

    cluster.stack("scale", f"{probe}_web=3")
    assert {version: len(tasks) for version, tasks in running(cluster, probe).items()} == {"two": 3}

    cluster.stack("rollback", probe, "1")
    assert list(running(cluster, probe)) == ["one"]
    assert [task["id"] for task in cluster.tasks(f"{probe}_other")] == [other["id"]], "nothing of it changed"


def test_an_image_that_no_registry_knows_is_told_and_runs_where_it_is(
    cluster: Cluster, probe: str, tmp_path: Path
) -> None:
    cluster.docker("n1", "pull", "busybox:1")
    cluster.docker("n1", "tag", "busybox:1", "only-here:1")
    (tmp_path / "compose.yml").write_text(
        'services: {a: {image: "only-here:1", command: ["sleep", "9999"], init: true, '
        'deploy: {placement: {constraints: ["node.hostname == n1"]}}}}'
    )
    done = cluster.stack("deploy", "-f", str(tmp_path / "compose.yml"), probe)
    assert "note: image only-here:1 could not be looked up" in done.stderr
    [task] = cluster.tasks(probe)
    assert (task["image"], task["digest"]) == ("only-here:1", "")
    cluster.docker("n1", "rmi", "only-here:1")
