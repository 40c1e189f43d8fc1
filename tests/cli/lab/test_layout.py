from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.lab import programs, settings
from cli.lab.layout import Layout
from cli.lab.registry import Image, parse_image
from cli.lab.settings import Settings
from cluster.errors import UserError

OLD = Settings("10.77.0.0/24", nodes=3, managers=1, programs=("engine",))
WITH_ETCD = Settings("10.77.0.0/24", nodes=3, managers=3)


@pytest.mark.parametrize("name", ["", "A", "my-lab", "1lab", "ninechars", "lab/x", "lab\n"])
def test_a_name_that_could_be_mistaken_for_another_labs_is_refused(name: str) -> None:
    with pytest.raises(UserError):
        Layout(name)


@pytest.mark.parametrize("subnet", ["10.77.0.0/16", "10.77.0.1/24", "fd00::/64", "ten"])
def test_a_subnet_that_is_no_slash_24_is_refused(subnet: str) -> None:
    with pytest.raises(UserError):
        Layout("lab", subnet)


def test_names_and_addresses_follow_from_the_labs() -> None:
    node = Layout("lab", "10.77.0.0/24").node("n2")
    assert (node.name, node.address, node.namespace) == ("n2", "10.77.0.2", "stackyard-lab-n2")
    assert str(node.engine_socket) == "/run/stackyard-lab/n2/docker.sock"
    assert node.lab.registry == "10.77.0.253:5000"


@pytest.mark.parametrize("name", ["n0", "n201", "n02", "2", "n", "switch", "n1/.."])
def test_a_node_that_cannot_be_is_refused(name: str) -> None:
    with pytest.raises(UserError):
        Layout().node(name)


@pytest.mark.parametrize(
    ("old", "asked", "new"),
    [
        pytest.param(None, {}, Settings("s"), id="a first up has three nodes and one manager"),
        pytest.param(OLD, {}, OLD, id="a second up changes nothing"),
        pytest.param(OLD, {"nodes": 5}, Settings(OLD.subnet, 5, 1, ("engine",)), id="nodes can be added"),
        pytest.param(OLD, {"nodes": 2}, OLD, id="what is up stays"),
        pytest.param(
            OLD, {"programs": ["etcd"]}, Settings(OLD.subnet, 3, 1, ("etcd", "engine")), id="programs can be added"
        ),
        pytest.param(
            OLD, {"managers": 3}, Settings(OLD.subnet, 3, 3, ("engine",)), id="managers can change while there are none"
        ),
        pytest.param(WITH_ETCD, {"managers": 3}, WITH_ETCD, id="the same number of managers is no change"),
    ],
)
def test_an_up_goes_on_from_the_lab_as_it_is(old: Settings | None, asked: dict[str, object], new: Settings) -> None:
    words = {"nodes": None, "managers": None, "programs": None, "engine_args": None, **asked}
    assert settings.plan(old, "s", **words) == new  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("old", "asked"),
    [
        pytest.param(WITH_ETCD, {"managers": 1}, id="members of an etcd that has data"),
        pytest.param(None, {"managers": 4}, id="more managers than nodes"),
        pytest.param(None, {"managers": 0}, id="no manager"),
        pytest.param(None, {"nodes": 0}, id="no node"),
        pytest.param(None, {"nodes": 201}, id="more nodes than addresses"),
        pytest.param(None, {"programs": ["docker"]}, id="a program that there is not"),
    ],
)
def test_an_up_that_cannot_be_is_refused(old: Settings | None, asked: dict[str, object]) -> None:
    words = {"nodes": None, "managers": None, "programs": None, "engine_args": None, **asked}
    with pytest.raises(UserError):
        settings.plan(old, "s", **words)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"nodes": 3}', '{"nodes": "many"}'])
def test_a_broken_settings_file_counts_as_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / "lab.json"
    path.write_text(text)
    assert settings.read(path) is None


def test_settings_are_read_as_they_were_written(tmp_path: Path) -> None:
    settings.write(tmp_path / "lab.json", WITH_ETCD)
    assert settings.read(tmp_path / "lab.json") == WITH_ETCD


def test_a_manager_asks_its_own_etcd_member_first() -> None:
    nodes = Layout().nodes(3)
    argv = programs.manager(nodes[1], nodes, Path("/bin")).argv
    assert argv[argv.index("--etcd") + 1] == "http://127.0.0.1:2379,http://10.77.0.1:2379,http://10.77.0.3:2379"


def test_the_engine_wraps_containers_with_the_runtime() -> None:
    config = json.loads(programs.engine_config(Layout().node("n1"), Path("/opt/stackyard-runtime")))
    assert config["runtimes"] == {"stackyard": {"path": "/opt/stackyard-runtime"}}


@pytest.mark.parametrize(
    ("name", "image"),
    [
        ("busybox:1", Image("library/busybox", "1")),
        ("debian", Image("library/debian", "latest")),
        ("acme/web:2", Image("acme/web", "2")),
        ("docker.io/acme/web", Image("acme/web", "latest")),
        ("10.77.0.253:5000/web:1", Image("library/web", "1")),
    ],
)
def test_images_have_the_names_that_docker_hub_would_give_them(name: str, image: Image) -> None:
    assert parse_image(name, "10.77.0.253:5000") == image


@pytest.mark.parametrize("name", ["ghcr.io/acme/web:1", "localhost/web", "reg:5000/web", "web@sha256:00"])
def test_an_image_of_another_registry_is_refused(name: str) -> None:
    with pytest.raises(UserError):
        parse_image(name, "10.77.0.253:5000")
