"""Every example in compose-files is deployed, and does what its README says."""

from __future__ import annotations

import json
import shutil
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]

FOLDER = Path(__file__).parents[2] / "compose-files"
NODES = ("n1", "n2", "n3")


@pytest.fixture
def example(cluster: Cluster, request: pytest.FixtureRequest) -> Iterator[Path]:
    """The Compose file of the example that the test is named after, with its images there; removed afterwards."""
    name = request.node.name.removeprefix("test_").replace("_", "-")
    file = FOLDER / name / "compose.yml"
    if "build:" in file.read_text():
        cluster.stack("lab", "build", "-f", str(file))
    yield file
    cluster.stack("rm", "--volumes", name, code=None)


def text(cluster: Cluster, node: str, port: int, path: str = "/", **form: str) -> str:
    """GET, or POST a form, as someone outside of the cluster."""
    data = urllib.parse.urlencode(form).encode() if form else None
    address = cluster.lab.layout.node(node).address

    def asked() -> list[str]:
        try:
            with urllib.request.urlopen(f"http://{address}:{port}{path}", data, timeout=60) as answer:
                return [answer.read().decode()]
        except urllib.error.URLError as error:
            if isinstance(error.reason, ConnectionRefusedError):
                return []  # it runs, but does not listen yet
            raise

    [said] = eventually(asked, f"something listens on port {port} of {node}")
    return said


def test_hello(cluster: Cluster, example: Path) -> None:
    cluster.stack("deploy", "-f", str(example))
    said = {text(cluster, node, 8000) for node in NODES for _ in range(5)}
    assert len(said) == 3 and all(line.startswith("hello from ") for line in said)


def test_voting_app(cluster: Cluster, example: Path) -> None:
    cluster.stack("deploy", "-f", str(example))
    for vote in ("Cats", "Cats", "Dogs"):
        text(cluster, "n1", 5000, "/vote", vote=vote)

    def counted() -> dict[str, int]:
        """The count; none while the page says 503, as it does until the worker has made the table of votes."""
        try:
            return dict(json.loads(text(cluster, "n2", 5001, "/api")))
        except urllib.error.HTTPError as error:
            if error.code != 503:
                raise
            return {}

    eventually(lambda: counted() == {"Cats": 2, "Dogs": 1}, "all votes are counted")


def test_blog(cluster: Cluster, example: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(example.parent, tmp_path / "blog")
    deploy = ("deploy", "-f", str(folder / "compose.yml"))
    cluster.stack(*deploy)
    with pytest.raises(urllib.error.HTTPError, match="403"):
        text(cluster, "n1", 5010, "/posts", title="Spam", text="Buy", password="guess")
    text(cluster, "n1", 5010, "/posts", title="Hello", text="First post", password="change-me-too")
    told = [json.loads(text(cluster, node, 5010, "/api")) for node in NODES for _ in range(3)]
    assert all(one["posts"] == [["Hello", "First post"]] for one in told)
    assert {one["about"] for one in told} == {
        f"Served by blog_page, task {task['slot']} on {task['node']}." for task in cluster.tasks("blog_page")
    }, "each task has expanded the template for itself"

    before = {task["id"]: task["service"] for task in cluster.tasks("blog")}
    (folder / "style.css").write_text("body { color: tomato }\n")
    (folder / "secrets/editor-password").write_text("another\n")
    cluster.stack(*deploy)
    after = {task["id"] for task in cluster.tasks("blog")}
    assert [before[task] for task in before.keys() & after] == ["db"], "only what uses them is replaced"
    assert "tomato" in text(cluster, "n3", 5010)
    text(cluster, "n2", 5010, "/posts", title="Again", text="Second post", password="another")
    assert len(json.loads(text(cluster, "n1", 5010, "/api"))["posts"]) == 2

    dump = cluster.lab.exec(
        "n1", ["sh", "-c", "ETCDCTL_API=3 etcdctl --endpoints http://127.0.0.1:2379 get --prefix /stackyard/"]
    ).stdout
    inspected = [cluster.docker(node, "inspect", one) for node in NODES for one in cluster.containers(node)]
    folders = [cluster.lab.layout.node(node).data_dir for node in NODES]
    written = [file.read_text() for one in folders for file in (*one.glob("*.log"), one / "agent/journal.json")]
    for value in ("change-me", "YW5vdGhlcg"):  # the second as base64
        assert not any(value in told for told in (dump, *inspected, *written))


def test_proxied_web(cluster: Cluster, example: Path) -> None:
    cluster.stack("deploy", "-f", str(example))

    def pages() -> set[str]:
        return {text(cluster, node, 5020).strip() for node in NODES for _ in range(8)}

    def expected() -> set[str]:
        return {f"page of task {task['slot']} on {task['node']}" for task in cluster.tasks("proxied-web_web")}

    eventually(lambda: pages() == expected(), "each of the four answers through the proxy")
    cluster.stack("scale", "proxied-web_web=6")
    eventually(lambda: len(expected()) == 6 and pages() == expected(), "the proxy finds the new ones")


def test_batch(cluster: Cluster, example: Path) -> None:
    cluster.stack("deploy", "-f", str(example))
    lines = text(cluster, "n1", 5030, "/done").split()
    assert lines[-1] == "sum=650"
    assert sorted(lines[:-1]) == sorted(f"{n}={n * n}" for n in range(1, 13))


def test_global_meter(cluster: Cluster, example: Path) -> None:
    cluster.stack("deploy", "-f", str(example))
    assert sorted(task["node"] for task in cluster.tasks("global-meter_meter")) == list(NODES)

    def told() -> list[str]:
        return sorted(line.split()[0] for line in text(cluster, "n2", 5040, "/cgi-bin/all").splitlines())

    eventually(lambda: told() == list(NODES), "every node tells its load")


def test_twenty(cluster: Cluster, example: Path) -> None:
    cluster.stack("deploy", "-f", str(example))
    tasks: list[dict[str, Any]] = cluster.tasks("twenty")
    assert len(tasks) == 20
    hosts = text(cluster, "n1", 5050, "/cgi-bin/link").split()
    by_service = {task["service"]: task["id"][:12] for task in tasks}
    assert hosts == [by_service[f"s{n:02}"] for n in range(1, 21)], "through all of them, in their order"
