"""Long answers are made piece by piece."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import pytest

from manager.api import bodies


@dataclass(frozen=True, slots=True)
class View:
    name: str


async def test_of_a_long_list_others_have_their_turn_and_what_goes_meanwhile_is_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bodies, "SLICE", -1.0)
    named = {name: View(name) for name in "dcba"}
    making = asyncio.create_task(bodies.listed(named, lambda one: [one, View(f"{one.name}2")]))
    await asyncio.sleep(0)
    del named["b"]
    answered = json.loads(bytes((await making).body))
    assert [one["name"] for one in answered] == ["a", "a2", "c", "c2", "d", "d2"]
