"""Volumes, binds and tmpfs in all forms."""

from __future__ import annotations

import pytest

from cluster.model.container import Mount
from tests.cluster.compose.loading import refused_service, service, stack

TOP = "volumes: {data: {}, own: {name: exact}}\n"


@pytest.mark.parametrize(
    ("fields", "mounts"),
    [
        pytest.param("volumes: ['data:/v']", [Mount("volume", "/v", "app_data")], id="a named volume"),
        pytest.param("volumes: ['own:/v:ro']", [Mount("volume", "/v", "exact", True)], id="with a name of its own"),
        pytest.param("volumes: ['data:/v:nocopy']", [Mount("volume", "/v", "app_data", nocopy=True)], id="nocopy"),
        pytest.param("volumes: [/v]", [Mount("volume", "/v")], id="an anonymous volume"),
        pytest.param("volumes: ['./r:/r']", [Mount("bind", "/r", "/srv/app/r")], id="a folder beside the file"),
        pytest.param("volumes: ['../r:/r']", [Mount("bind", "/r", "/srv/r")], id="a folder above"),
        pytest.param("volumes: ['~/r:/r/']", [Mount("bind", "/r", "/home/u/r")], id="a folder at home"),
        pytest.param(
            "volumes: ['/a:/b:ro,rslave']",
            [Mount("bind", "/b", "/a", True, propagation="rslave")],
            id="a bind's options",
        ),
        pytest.param(
            "volumes: [{type: bind, source: ./x, target: /x, bind: {create_host_path: true}}]",
            [Mount("bind", "/x", "/srv/app/x", create_host_path=True)],
            id="a bind that makes its folder",
        ),
        pytest.param(
            "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0o1777}}]",
            [Mount("tmpfs", "/t", tmpfs_size=2**20, tmpfs_mode=0o1777)],
            id="a tmpfs",
        ),
        pytest.param("tmpfs: /run", [Mount("tmpfs", "/run")], id="a short tmpfs"),
        pytest.param(
            "tmpfs: ['/run:size=64k,mode=700', /tmp]",
            [Mount("tmpfs", "/run", tmpfs_size=65536, tmpfs_mode=0o700), Mount("tmpfs", "/tmp")],
            id="a short tmpfs with options",
        ),
        pytest.param(
            "volumes: ['data:/v', 'own:/v/']", [Mount("volume", "/v", "exact")], id="the last of one target wins"
        ),
    ],
)
def test_mounts(fields: str, mounts: list[Mount]) -> None:
    assert service(fields, top=TOP, env={"HOME": "/home/u"}).container.mounts == tuple(mounts)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        pytest.param("volumes: ['other:/v']", "there is no volume 'other'", id="not declared"),
        pytest.param("volumes: [':/media']", "is not a volume", id="an empty part"),
        pytest.param("volumes: ['a:b:c:d']", "is not a volume", id="too many parts"),
        pytest.param("volumes: ['v:/v']", "the letter of a drive", id="one letter"),
        pytest.param("volumes: ['data:v']", "is not an absolute path", id="a relative target"),
        pytest.param("volumes: ['data:/']", "is not an absolute path", id="the root as target"),
        pytest.param("volumes: ['data:/v:wo']", "'wo' is no option of a volume mount", id="a wrong option"),
        pytest.param("volumes: ['./a:/v:z']", "SELinux", id="SELinux"),
        pytest.param("volumes: ['~/a:/v']", "needs HOME", id="no home"),
        pytest.param("volumes: [{type: bind, target: /v}]", "the bind has no source", id="a bind of nothing"),
        pytest.param("volumes: [{source: data, target: /v}]", "the volume has no type", id="no type"),
        pytest.param("volumes: [{type: npipe, target: /v}]", "the type 'npipe' is not supported", id="another type"),
        pytest.param(
            "volumes: [{type: bind, source: /a, target: /v, volume: {nocopy: true}}]",
            "options of a volume, and the mount is a bind",
            id="options of another type",
        ),
        pytest.param(
            "volumes: [{type: tmpfs, source: x, target: /v}]", "a tmpfs has no source", id="a tmpfs of something"
        ),
        pytest.param("tmpfs: '/run:uid=1'", "'uid' is no option of a tmpfs", id="a wrong option of a tmpfs"),
        pytest.param("tmpfs: '/run:mode=9'", "a whole number is wanted", id="a wrong mode"),
    ],
)
def test_refused(fields: str, told: str) -> None:
    error = refused_service(fields, top=TOP)
    assert told in error.reason
    assert error.line == 2


def test_only_volumes_in_use_are_part_of_the_stack() -> None:
    spec = stack("services: {a: {image: x, volumes: ['data:/v']}}\nvolumes: {data: , spare: }")
    assert [(v.key, v.name) for v in spec.volumes.values()] == [("data", "app_data")]
