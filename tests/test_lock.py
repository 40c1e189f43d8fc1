"""The lock files: everything that is installed is named there once, with hashes, in a version that will do."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
EXTRAS = {"requirements.lock": ("build",), "requirements-dev.lock": ("build", "dev")}


def locked(name: str) -> dict[str, tuple[str, int]]:
    """Give version and number of hashes by package."""
    text = (ROOT / name).read_text().replace("\\\n", " ")
    found: dict[str, tuple[str, int]] = {}
    for line in text.splitlines():
        requirement = re.match(r"([A-Za-z0-9._-]+)==(\S+)", line)
        assert requirement is not None, f"{name}: {line[:80]}"
        found[canonicalize_name(requirement[1])] = (
            requirement[2],
            len(re.findall(r"--hash=sha256:[0-9a-f]{64}\b", line)),
        )
    return found


@pytest.mark.parametrize("name", EXTRAS)
def test_every_package_has_hashes(name: str) -> None:
    packages = locked(name)
    assert packages and not [package for package, (_, hashes) in packages.items() if not hashes]


@pytest.mark.parametrize("name", EXTRAS)
def test_what_the_project_asks_for_is_locked_in_a_version_that_will_do(name: str) -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = [
        *project["dependencies"],
        *(one for extra in EXTRAS[name] for one in project["optional-dependencies"][extra]),
    ]
    packages = locked(name)
    wrong = []
    for requirement in map(Requirement, asked):
        version, _ = packages.get(canonicalize_name(requirement.name), ("", 0))
        if not version or version not in requirement.specifier:
            wrong.append(f"{requirement}: {version or 'missing'}")
    assert not wrong, f"run scripts/lock: {wrong}"


def test_tests_run_with_the_versions_that_hosts_get() -> None:
    hosts, tests = locked("requirements.lock"), locked("requirements-dev.lock")
    assert {name: tests.get(name) for name in hosts} == hosts
