"""Clients that read slowly: nothing piles up for them in a manager, and they are told what they have lost."""

from __future__ import annotations

from contextlib import aclosing
from dataclasses import replace
from typing import Any

import msgspec
import pytest

from cluster.events import ClusterEvent
from manager.api import events
from manager.api.callers import LOCAL
from manager.events import EventLog
from tests.manager.managers import RunningManager

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
