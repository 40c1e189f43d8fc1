"""Clients that read slowly: nothing piles up for them in a manager, and they are told what they have lost."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from cluster.events import ClusterEvent
from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from manager.api import events, stacks
from manager.api.callers import LOCAL
from manager.events import EventLog
from manager.picture import Change
from tests.manager.managers import Client, RunningManager
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

KEPT, MISSED = 100, 7


def told(lines: bytes) -> list[dict[str, Any]]:
    return [msgspec.json.decode(line) for line in lines.splitlines()]


async def test_who_reads_events_too_slowly_is_told_how_many_are_lost(
    manager: RunningManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.05)
    core = manager.core
    ring = EventLog(core.follower, core.clock, "m1", KEPT)  # fed by nobody but this test
    async with aclosing(events._stream(replace(core, events=ring), LOCAL, events.Wanted(follow=True))) as stream:
        assert [one["action"] for one in told(await anext(stream))] == ["at"]
        ring._add([ClusterEvent(n, 0.0, "node", "joined", name=f"n{n}") for n in range(KEPT + MISSED)])
        [lost] = told(await anext(stream))
        assert (lost["type"], lost["action"]) == ("stream", "lost")
        assert f"{MISSED} events came faster than they were read" in lost["message"]
        assert [one["name"] for one in told(await anext(stream))] == [f"n{n}" for n in range(MISSED, KEPT + MISSED)]


@pytest.mark.parametrize("kind", ["events", "progress"])
async def test_a_stream_is_not_silent_while_only_other_things_happen(
    manager: RunningManager, root: Client, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    spec = StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec("web:1"))})
    await root.ask("PUT", "/stacks/shop", {"spec": spec, "operation": "op1"})
    core = manager.core
    stack = core.state.stacks["shop"]
    monkeypatch.setattr(events, "KEEP_ALIVE", 0.3)
    monkeypatch.setattr(stacks, "KEEP_ALIVE", 0.3)

    async def bustle() -> None:
        while True:
            core.follower._tell([Change("", stack, stack)])
            await asyncio.sleep(0.02)

    wanted = events.Wanted(follow=True, filters=(("stack", "moon"),))
    stream = events._stream(core, LOCAL, wanted) if kind == "events" else stacks._progress(core, LOCAL, stack, 1, ())
    bustling = asyncio.create_task(bustle())
    try:
        async with asyncio.timeout(PATIENCE):
            async for some in stream:
                if some == b"\n" or b'"at"' in some:
                    break
    finally:
        bustling.cancel()
        await stream.aclose()
