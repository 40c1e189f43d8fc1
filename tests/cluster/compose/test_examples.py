"""The example stacks: they load, what they build is there, and their programs are Python."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from cluster import compose

FOLDER = Path(__file__).parents[3] / "compose-files"
FILES = sorted(FOLDER.glob("*/compose.yml"))


def read(file: Path) -> compose.Project:
    return compose.read([str(file)], {}, lambda path: Path(path).read_bytes())


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.parent.name)
def test_an_example_loads_without_a_note_and_has_what_it_builds(file: Path) -> None:
    project = read(file)
    assert project.stack().name == file.parent.name
    assert project.notes == ()
    for build in project.builds():
        assert Path(build.dockerfile).is_file()


def test_the_voting_app_is_what_its_readme_says() -> None:
    spec = read(FOLDER / "voting-app/compose.yml").stack()
    attached = {name: {n.network for n in service.networks} for name, service in spec.services.items()}
    assert attached == {
        "vote": {"front"},
        "redis": {"front"},
        "worker": {"front", "back"},
        "db": {"back"},
        "result": {"back"},
    }
    assert {(port.published, name) for name, s in spec.services.items() for port in s.ports} == {
        (5000, "vote"),
        (5001, "result"),
    }
    assert spec.services["db"].volume_names == ("voting-app_db-data",)


@pytest.mark.parametrize("program", sorted(FOLDER.glob("*/*/*.py")), ids=lambda path: path.name)
def test_programs_can_be_read(program: Path) -> None:
    ast.parse(program.read_text())
