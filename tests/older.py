"""The older release that upgrades are tested with: this repository at an older commit, with this one's libraries."""

from __future__ import annotations

import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.machines import CHECKOUT

COMMIT, VERSION = "078960b", 3
"""The last commit of that version of protocol and records."""


def extract(folder: Path) -> None:
    """Put its programs' code into a folder; skips the test where there is no history."""
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT), "archive", COMMIT]
    made = subprocess.run([*git, "agent", "manager", "cluster", "cli"], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"there is no history here in which {COMMIT} is (a shallow clone, or none): {made.stderr.decode()}")
    with tarfile.open(fileobj=io.BytesIO(made.stdout)) as tar:
        tar.extractall(folder, filter="data")
