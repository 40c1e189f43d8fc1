"""A small lab of engines and an etcd, on a network of its own; a killed run's is taken away first."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from cli.lab import Lab
from tests import own


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", str(tmp_path_factory.mktemp("config")))
        made = Lab(*own.place(own.LAB))
        made.down()
        try:
            made.up(nodes=2, programs=["engine", "etcd"])
            yield made
        finally:
            made.down()
