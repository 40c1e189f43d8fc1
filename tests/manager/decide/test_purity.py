"""Deciding sees no clock, no chance, no file, no network and no event loop: its imports say so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PURE = sorted(
    [
        *ROOT.glob("manager/decide/*.py"),
        *(ROOT / f"manager/{n}.py" for n in ("picture", "shown", "roster", "stamps", "invariants", "clock")),
    ]
)
ALLOWED = {
    *(
        "__future__",
        "bisect",
        "collections",
        "dataclasses",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "ipaddress",
        "itertools",
    ),
    *("re", "typing"),
}
OWN = ("cluster.", "manager.decide", "manager.picture", "manager.shown", "manager.roster", "manager.stamps")


@pytest.mark.parametrize("file", [pytest.param(path, id=str(path.relative_to(ROOT))) for path in PURE])
def test_pure_files_import_only_what_is_pure(file: Path) -> None:
    for node in ast.walk(ast.parse(file.read_text())):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        for name in names:
            assert name.partition(".")[0] in ALLOWED or name.startswith(OWN), f"{file.name} imports {name}"
