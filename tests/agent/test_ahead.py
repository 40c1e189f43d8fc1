from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from agent import ahead
from agent.ahead import Ahead
from agent.container import ImageWish
from agent.engine import EngineDown, EngineRefused, EngineTrouble
from agent.known import Known
from cluster.errors import StackyardError
from cluster.model.task import Task
from tests.agent.builders import a_set, a_task, an_item

OLD = an_item()
NEW = replace(OLD, version=OLD.version + 1, coming=True)


class Stage:
    """An Ahead whose engine does as it is told: `troubles` come first, and while it is `held` nothing ends."""

    def __init__(self) -> None:
        self.known = Known()
        self.ahead = Ahead(self.known, self.have)
        self.asked: list[ImageWish] = []
        self.troubles: list[StackyardError] = []
        self.free = asyncio.Event()
        self.free.set()
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()

    async def have(self, wish: ImageWish) -> None:
        self.asked.append(wish)
        self.begun.set()
        try:
            await self.free.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        if self.troubles:
            raise self.troubles.pop(0)

    def assign(self, *items: object) -> None:
        self.known.assign(a_set(*items), complete=True, now=time.time())  # type: ignore[arg-type]
        self.ahead.assigned()

    async def told(self) -> dict[str, str]:
        return (await self.ahead.take()).images


@pytest.fixture
async def stage(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stage]:
    monkeypatch.setattr(ahead, "FIRST_PAUSE", 0.0)
    stage = Stage()
    working = asyncio.create_task(stage.ahead.run())
    yield stage
    working.cancel()
    await asyncio.wait([working])


@pytest.mark.parametrize("tasks", [(a_task(OLD),), (a_task(OLD), a_task(NEW, slot=2, n=2))])
async def test_the_image_of_the_version_to_come_is_pulled_and_told_in_each_session(
    stage: Stage, tasks: tuple[Task, ...]
) -> None:
    stage.assign(OLD, an_item("alone"), NEW, *tasks)
    assert await stage.told() == {NEW.name: ""}
    assert len(stage.asked) == 1
    stage.ahead.tell_again()
    assert await stage.told() == {NEW.name: ""}


@pytest.mark.parametrize(
    ("troubles", "told"),
    [
        pytest.param([EngineDown("it is away")] * 9, "", id="an engine that is down says nothing of the image"),
        pytest.param([EngineTrouble("a hiccup")] * (ahead.TRIES - 1), "", id="what passes is waited out"),
        pytest.param([EngineTrouble("it is slow")] * ahead.TRIES, "it is slow", id="but not for ever"),
        pytest.param([EngineRefused("no such image")], "no such image", id="what cannot be had is told at once"),
    ],
)
async def test_troubles(stage: Stage, troubles: list[StackyardError], told: str) -> None:
    stage.troubles = list(troubles)
    stage.assign(OLD, a_task(OLD), NEW)
    assert await stage.told() == {NEW.name: told}
    if told:
        assert await stage.told() == {NEW.name: ""}, "it was tried again"


async def test_a_pull_that_nobody_wants_any_more_is_given_up(stage: Stage) -> None:
    stage.free.clear()
    stage.assign(OLD, a_task(OLD), NEW)
    await stage.begun.wait()
    stage.assign(OLD, a_task(OLD))
    await stage.cancelled.wait()
