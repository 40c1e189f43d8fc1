"""The context that `stack init` writes for root, on a whole manager."""

from __future__ import annotations

import asyncio
import os
import shutil
from pathlib import Path

import pytest

from cli.client import contexts
from cli.client.client import Client
from cli.client.contexts import Context
from cli.host import local
from cluster.errors import StackyardError
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd


async def test_a_certificate_that_is_renewed_takes_the_place_of_the_one_before(
    manager: RunningManager, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    sockets = [manager.settings.socket]

    async def written() -> bool:
        return await asyncio.to_thread(local.write_context, "c", [manager.base], sockets, "root-m1")

    def asked(context: Context) -> str:
        with Client(context, patience=0) as client:
            return client.me().name

    assert await written()
    assert not await written(), "it fits"
    first = contexts.chosen("c")
    kept = {field: contexts.folder("c") / f"old-{field}.pem" for field in ("cert", "key")}
    for field, path in kept.items():
        shutil.copy(getattr(first, field), path)
    os.utime(first.cert, (0, 0))
    assert await written(), "it is old"
    assert await asyncio.to_thread(asked, contexts.chosen("c")) == "root-m1"
    before = Context(first.endpoints, first.ca, str(kept["cert"]), str(kept["key"]))
    with pytest.raises(StackyardError):
        await asyncio.to_thread(asked, before)
