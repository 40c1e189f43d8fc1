"""Quick tests go first, whatever their room: what needs a lab can take minutes to say what a table says at once."""

from __future__ import annotations

import pytest

_WEIGHTS = {"root": 1, "etcd": 1, "engine": 2, "lab": 3}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: max((_WEIGHTS.get(mark.name, 0) for mark in item.iter_markers()), default=0))
