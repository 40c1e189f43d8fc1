"""Asking nodes what images mean: toy agents over real TLS."""

from __future__ import annotations

import asyncio

import pytest

from cluster.protocol import ImagesResolved, ResolveImages
from manager.sessions import images
from tests.manager.sessions.stage import Stage, ToyAgent, node

pytestmark = pytest.mark.etcd

FOUND = {"web:1": "sha256:aa"}


async def answering(agent: ToyAgent, ident: str | None = None) -> ResolveImages:
    asked = await agent.hear(ResolveImages)
    await agent.say(ImagesResolved(ident or asked.id, FOUND))
    return asked


async def test_a_node_answers_for_all(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1")
    asked, found = await asyncio.gather(answering(agent), stage.sessions.resolve(["db:1", "web:1"]))
    assert asked.images == ("db:1", "web:1")
    assert found.digests == FOUND


async def test_another_node_is_asked_when_the_first_is_silent(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "ANOTHER_AFTER", 0.05)
    await stage.write(node("n1"), node("n2"))
    first, second = await stage.agent("n1"), await stage.agent("n2")
    asking = asyncio.create_task(stage.sessions.resolve(["web:1"]))
    answers = (first.hear(ResolveImages), second.hear(ResolveImages))
    one, other = await asyncio.gather(*answers)
    assert one.id != other.id
    await first.say(ImagesResolved(other.id, {"web:1": "sha256:forged"}))
    await second.say(ImagesResolved(other.id, FOUND))
    assert (await asking).digests == FOUND, "a node answers only what it was asked itself"


async def test_agents_of_before_are_not_asked(stage: Stage) -> None:
    await stage.write(node("n1"))
    agent = await stage.agent("n1", newest_version=1)
    found = await stage.sessions.resolve(["web:1"])
    assert (found.digests, list(found.problems)) == ({}, ["web:1"])
    assert agent.others == []


async def test_silence_is_no_error(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "WITHIN", 0.1)
    await stage.write(node("n1"))
    await stage.agent("n1")
    found = await stage.sessions.resolve(["web:1"])
    assert found.problems == {"web:1": "no node answered in time"}
