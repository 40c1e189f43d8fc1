"""Who gets a place when there are fewer than wishes."""

from __future__ import annotations

import asyncio

from agent.turns import Turns


async def hold(turns: Turns, name: str, told: list[str], *, urgent: bool, until: asyncio.Event | None = None) -> None:
    async with turns.turn(urgent=urgent):
        told.append(name)
        if until is not None:
            await until.wait()


async def until_all_wait() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_the_urgent_come_before_all_who_wait_and_each_group_in_order() -> None:
    turns, free = Turns(1), asyncio.Event()
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(turns, "first", told, urgent=False, until=free))
        await until_all_wait()
        for name in ("removal 1", "stop 1", "removal 2", "stop 2"):
            group.create_task(hold(turns, name, told, urgent=name.startswith("stop")))
        await until_all_wait()
        free.set()
    assert told == ["first", "stop 1", "stop 2", "removal 1", "removal 2"]


async def test_no_more_than_there_are_places() -> None:
    turns, free = Turns(2), asyncio.Event()
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        for name in ("a", "b", "c"):
            group.create_task(hold(turns, name, told, urgent=True, until=free))
        await until_all_wait()
        assert told == ["a", "b"]
        free.set()
    assert told == ["a", "b", "c"]


async def test_who_gives_up_waiting_takes_no_place_along_not_even_one_that_just_came() -> None:
    turns, free = Turns(1), asyncio.Event()
    told: list[str] = []
    async with asyncio.TaskGroup() as group:
        group.create_task(hold(turns, "first", told, urgent=False, until=free))
        await until_all_wait()
        waits = group.create_task(hold(turns, "waits", told, urgent=True))
        late = group.create_task(hold(turns, "late", told, urgent=True))
        await until_all_wait()
        waits.cancel()
        free.set()
        await asyncio.sleep(0)  # the first lets go: the place comes to the second that waits
        late.cancel()
    assert told == ["first"]
    await hold(turns, "next", told, urgent=False)
    assert told == ["first", "next"]
