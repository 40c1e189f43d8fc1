"""Names, networks, volumes and what must fit together: as `docker stack deploy` converts."""

from __future__ import annotations

import pytest

from cluster import compose
from cluster.errors import ComposeError
from cluster.model.network import NetworkSpec
from cluster.model.volume import VolumeSpec
from tests.cluster.compose.loading import FILE, project, reader_of, refused, stack

ONE = "services: {a: {image: x}}\n"


def named(text: str = ONE, name: str | None = None, folder: str = "/srv/My App_2") -> str:
    return compose.load([f"{folder}/c.yml"], {}, reader_of({f"{folder}/c.yml": text}), project_name=name).name


def test_the_name_is_given_or_in_the_file_or_the_folders() -> None:
    assert named() == "myapp_2"
    assert named("name: shop\n" + ONE) == "shop"
    assert named("name: shop\n" + ONE, "own") == "own"
    assert named("name: ${N:-x}y\n" + ONE) == "xy"


@pytest.mark.parametrize("name", ["", "Upper", "_x", "a b", "a.b", "x" * 64])
def test_wrong_names(name: str) -> None:
    with pytest.raises(ComposeError, match="cannot be the name of a stack"):
        named(ONE, name)


def test_a_folder_may_give_no_name() -> None:
    with pytest.raises(ComposeError, match="the stack has no name"):
        named(ONE, folder="/")


def test_a_service_has_a_name_that_fits_into_dns() -> None:
    error = refused(f"services:\n  {'x' * 60}: {{image: x}}")
    assert (error.line, error.reason.endswith("is 64 characters long, a service may have 63")) == (2, True)
    assert "cannot be the name of a service" in refused("services: {'a b': {image: x}}").reason


def test_services_without_networks_share_the_default_one() -> None:
    assert stack(ONE).networks == {"default": NetworkSpec("default", "app_default")}
    spec = stack(ONE + "networks: {default: {internal: true, labels: [a=1]}}")
    assert spec.networks == {"default": NetworkSpec("default", "app_default", internal=True, labels={"a": "1"})}


def test_networks_are_named_after_the_stack_unless_they_say_otherwise() -> None:
    spec = stack(
        """
        services: {a: {image: x, networks: [n, own, ext, far]}}
        networks:
          n: {driver: overlay, driver_opts: {com.docker.network.driver.mtu: 1400}}
          own: {name: "exact-${V:-1}", ipam: {config: [{subnet: 10.5.0.0/24}]}}
          ext: {external: true}
          far: {external: true, name: elsewhere}
          spare: {}
        """
    )
    assert spec.networks == {
        "ext": NetworkSpec("ext", "ext", external=True),
        "far": NetworkSpec("far", "elsewhere", external=True),
        "n": NetworkSpec("n", "app_n", mtu=1400),
        "own": NetworkSpec("own", "exact-1", subnets=("10.5.0.0/24",)),
    }


def test_volumes_are_named_after_the_stack_unless_they_say_otherwise() -> None:
    spec = stack(
        """
        services: {a: {image: x, volumes: ["vv:/a", "own:/b", "ext:/c"]}}
        volumes:
          vv: {driver: local, driver_opts: {type: nfs}, labels: {a: 1}}
          own: {name: exact}
          ext: {external: {name: elsewhere}}
        """
    )
    assert spec.volumes == {
        "ext": VolumeSpec("ext", "elsewhere", external=True),
        "own": VolumeSpec("own", "exact"),
        "vv": VolumeSpec("vv", "app_vv", driver_options={"type": "nfs"}, labels={"a": "1"}),
    }


@pytest.mark.parametrize(
    ("top", "line", "told"),
    [
        ("networks: {n: {driver: bridge}}", 2, "networks of the driver 'bridge' are not supported"),
        ("networks: {n: {driver_opts: {x: 1}}}", 2, "the option is not supported"),
        ("networks: {n: {external: true, internal: true}}", 2, "an external network is not made here"),
        ("networks: {n: {ipam: {config: [{subnet: 10.5.0.1/24}]}}}", 2, "is not a subnet"),
        ("networks: {n: {ipam: {config: [{}]}}}", 2, "the entry has no subnet"),
        ("networks: {n: {name: 'a/b'}}", 2, "cannot be the name of a network"),
        ("volumes:\n  v:\n    external: {name: x}\n    name: y", 4, "the name is there twice"),
        ("volumes: {v: {external: [x]}}", 2, "true or false is wanted"),
        ("volumes: [v]", 2, "a mapping is wanted here, not a list"),
    ],
)
def test_refused(top: str, line: int, told: str) -> None:
    error = refused(ONE + top)
    assert told in error.reason
    assert error.line == line


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("", "the file is empty", id="nothing"),
        pytest.param("# only a comment\n", "the file is empty", id="a comment"),
        pytest.param("services: {}", "there are no services", id="no services"),
        pytest.param("name: x", "there are no services", id="no key services"),
        pytest.param("[a]", "a mapping is wanted here, not a list", id="a list"),
        pytest.param("just text", "a mapping is wanted here, not text", id="text"),
        pytest.param("services: {a: }", "the service has no image", id="a service of nothing"),
        pytest.param("services: {a: x}", "a mapping is wanted here, not text", id="a service that is text"),
        pytest.param("version: 3\nservices: {a: {image: x}}", "text is wanted here", id="a version that is a number"),
    ],
)
def test_files_that_are_no_stack(text: str, told: str) -> None:
    assert told in refused(text).reason


def test_files_that_cannot_be_read() -> None:
    def closed(path: str) -> bytes:
        raise PermissionError(13, "Permission denied", path)

    with pytest.raises(ComposeError, match=r"c\.yml: there is no such file"):
        compose.load(["c.yml"], {}, reader_of({}))
    with pytest.raises(ComposeError, match="the file cannot be read: Permission denied"):
        compose.load(["c.yml"], {}, closed)
    with pytest.raises(ComposeError, match="no file is given"):
        compose.load([], {}, reader_of({}))


def test_builds_are_told_apart_from_the_stack() -> None:
    found = project(
        """
        services:
          a: {image: "a:${T:-1}", build: ./a}
          b: {image: b, build: {context: .., dockerfile: B.docker, args: [X=1, Y, Z], target: last}}
          c: {image: c}
        """,
        env={"Y": "y"},
    )
    assert found.builds() == (
        compose.Build("a", "a:1", "/srv/app/a", "/srv/app/a/Dockerfile", {}),
        compose.Build("b", "b", "/srv", "/srv/B.docker", {"X": "1", "Y": "y"}, "last"),
    )
    assert found.stack().services["a"].container.image == "a:1"


def test_the_line_of_a_merged_key_is_where_it_was_written() -> None:
    error = refused("x-a: &a\n  tty: 7\nservices:\n  a:\n    <<: *a\n    image: x\n")
    assert (error.file, error.line, error.field) == (FILE, 2, "services.a.tty")
