"""The conformance pack: cases of others with the answers of Docker's own loader, run in this process.

The pack lies beside the repository, or where $STACKYARD_CONFORMANCE says. It brings its own comparison.
"""

from __future__ import annotations

import importlib.util
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from cluster import compose
from cluster.errors import ComposeError

PACK = Path(os.environ.get("STACKYARD_CONFORMANCE") or Path(__file__).parents[4] / "shared" / "conformance")

LEAST_ACCEPTS, LEAST_REJECTS = 1.0, 0.99
"""The scores that were reached: of what Docker loads and what it refuses. They may only grow."""

pytestmark = pytest.mark.skipif(not PACK.is_dir(), reason=f"there is no conformance pack at {PACK}")


@pytest.fixture(scope="module")
def pack() -> ModuleType:
    spec = importlib.util.spec_from_file_location("conformance", PACK / "conformance.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def cases() -> Iterator[tuple[dict[str, Any], dict[str, Any]]]:
    answers = {row["id"]: row for row in map(json.loads, (PACK / "oracle.jsonl").read_text().splitlines())}
    for line in (PACK / "cases.jsonl").read_text().splitlines():
        case = json.loads(line)
        answer = answers[case["id"]]
        if not answer.get("net"):  # the answer would need the network
            yield case, answer


def load(case: dict[str, Any], environment: dict[str, str]) -> dict[str, Any] | None:
    """Load as `stack config` does in the case's folder; None where it is refused."""
    folder = PACK / "corpora" / case["cwd"]

    def reader(path: str) -> bytes:
        content: bytes = (folder / path).read_bytes()
        return content

    try:
        project = compose.read(
            case["files"],
            environment,
            reader,
            name=case["name"],
            directory=str((folder / case["files"][0]).parent),
            profiles=case["profiles"],
        )
    except ComposeError:
        return None
    return project.model


def test_as_much_is_loaded_and_refused_as_docker_does(pack: ModuleType) -> None:
    root = str(PACK / "corpora")
    wrong: dict[bool, list[str]] = {True: [], False: []}
    count = {True: 0, False: 0}
    for case, answer in cases():
        model = load(case, {**pack.BASE_ENV, **case["env"]})
        count[answer["ok"]] += 1
        if answer["ok"] and model is not None:
            expected = json.loads(json.dumps(answer["model"]).replace("@ROOT@", root))
            case["cwd"] = os.path.join(root, case["cwd"])
            found = pack.diff(pack.canon(expected, case, root), pack.canon(model, case, root))
            if found:
                wrong[True].append(f"{case['id']}: {found[:2]}")
        elif answer["ok"] != (model is not None):
            wrong[answer["ok"]].append(case["id"])
    accepts, rejects = (1 - len(wrong[ok]) / count[ok] for ok in (True, False))
    told = "\n".join(wrong[True] + wrong[False])
    assert accepts >= LEAST_ACCEPTS and rejects >= LEAST_REJECTS, f"{accepts:.2%} {rejects:.2%}\n{told}"
