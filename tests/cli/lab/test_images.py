from __future__ import annotations

from pathlib import Path

import pytest

from cli.lab.images import debian_sources, read_builds
from cluster.errors import ComposeError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("web", "worker"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "Dockerfile").write_text("FROM debian:bookworm-slim\n")
    (tmp_path / "worker" / "Other").write_text("FROM busybox:1\n")
    return tmp_path


def test_builds_are_read_in_both_forms_and_each_image_once(folder: Path) -> None:
    file = folder / "compose.yml"
    file.write_text(
        """
        services:
          web: {image: "web:1", build: ./web}
          again: {image: "web:1", build: ./web}
          worker:
            image: worker:1
            build: {context: worker, dockerfile: Other, args: [A=1, B]}
          redis: {image: "redis:7"}
        """
    )
    web, worker = read_builds(file)
    assert (web.image, web.context, web.dockerfile) == ("web:1", f"{folder}/web", f"{folder}/web/Dockerfile")
    assert (worker.dockerfile, worker.args) == (f"{folder}/worker/Other", {"A": "1"})


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("a: [", "compose.yml:", id="no YAML"),
        pytest.param("[]", "not a mapping", id="no services"),
        pytest.param("services: {a: {build: ./web}}", "there is no image", id="a build without an image"),
        pytest.param("services: {a: {image: a, build: ./gone}}", "there is no", id="a context without a Dockerfile"),
        pytest.param("services: {a: {image: a, build: 3}}", "text or a mapping", id="a build that is a number"),
        pytest.param("services: {a: {image: a, build: {context: web, ssh: x}}}", "ssh", id="an option we lack"),
    ],
)
def test_a_file_that_cannot_be_built_is_refused_with_its_place(folder: Path, text: str, told: str) -> None:
    (folder / "compose.yml").write_text(text)
    with pytest.raises(ComposeError, match=told):
        read_builds(folder / "compose.yml")


def test_a_file_that_is_not_there_is_told() -> None:
    with pytest.raises(ComposeError, match=r"/nowhere/compose\.yml"):
        read_builds(Path("/nowhere/compose.yml"))


def test_packages_come_from_a_mirror_with_debians_signature() -> None:
    lines = debian_sources()
    assert lines
    assert all(line.startswith("deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] http") for line in lines)
