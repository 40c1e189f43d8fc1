"""The text of the systemd units."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from cli.host import units

# Those of systemd.exec(5) that give a unit a mount namespace of its own.
MOUNT_NAMESPACE = (
    "PrivateTmp", "PrivateDevices", "PrivateMounts", "PrivateUsers", "PrivateIPC", "PrivateNetwork", "Protect",
    "ReadWritePaths", "ReadOnlyPaths", "InaccessiblePaths", "ExecPaths", "NoExecPaths", "TemporaryFileSystem",
    "BindPaths", "BindReadOnlyPaths", "RootDirectory", "RootImage", "MountImages", "ExtensionImages",
    "ExtensionDirectories", "MountFlags", "MountAPIVFS", "ProcSubset", "DynamicUser", "LogNamespace",
    "NetworkNamespacePath", "LoadCredential", "SetCredential", "ImportCredential",
)  # fmt: skip


def directives(text: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in text.splitlines() if "=" in line)


def test_nothing_gives_the_agent_a_mount_namespace() -> None:
    found = directives(units.agent(["/bin/a"]))
    assert not [name for name in found for bad in MOUNT_NAMESPACE if name.startswith(bad)]


@pytest.mark.parametrize("made", [units.agent(["/bin/a"]), units.manager(["/bin/m"])], ids=["agent", "manager"])
def test_programs_come_back_and_gain_no_rights(made: str) -> None:
    found = directives(made)
    assert (found["Restart"], found["NoNewPrivileges"]) == ("always", "yes")


def test_the_end_of_the_agent_ends_nothing_else() -> None:
    found = directives(units.agent(["/bin/a"]))
    assert found["KillMode"] == "process"
    assert "docker.service" in found["Wants"] and "Requires" not in found and "BindsTo" not in found


def test_sockets_are_kept_for_the_next_agent() -> None:
    found = directives(units.agent(["/bin/a"]))
    assert (found["NotifyAccess"], found["FileDescriptorStoreMax"]) == ("main", "4096")
    assert units.MOST_KEPT * len("0" * 25 + ":") < 128 * 1024, "their names fit into one variable"


def test_the_manager_may_do_nothing_that_takes_a_capability() -> None:
    assert directives(units.manager(["/bin/m"]))["CapabilityBoundingSet"] == ""


@pytest.mark.parametrize(
    ("word", "written"),
    [
        ("/opt/stackyard/bin/stack-agent", "/opt/stackyard/bin/stack-agent"),
        ("", '""'),
        ("two words", '"two words"'),
        ("50%", "50%%"),
        ("$HOME", "$$HOME"),
        ('say "no"', '"say \\"no\\""'),
        ("a\\b", "a\\\\b"),
        ("x;y", '"x;y"'),
        ("line\nExecStart=/bin/evil", "line\\nExecStart=/bin/evil"),
    ],
)
def test_words_of_the_command_stay_what_they_are(word: str, written: str) -> None:
    assert directives(units.agent(["/bin/a", word]))["ExecStart"] == f"/bin/a {written}"


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd-analyze here")
@pytest.mark.parametrize("name", [units.AGENT, units.MANAGER])
def test_systemd_has_no_objection(name: str, tmp_path: Path) -> None:
    make = units.agent if name == units.AGENT else units.manager
    (tmp_path / name).write_text(make(["/bin/true", "--data-dir", "/a b%/$c"]))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
