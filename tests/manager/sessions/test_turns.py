"""Turns on the event loop: few in each round, in order, and nothing left running when nobody works."""

from __future__ import annotations

import asyncio
from collections import Counter

from manager.sessions.turns import Turns


async def test_many_who_come_together_work_a_few_in_each_round_in_the_order_in_which_they_came() -> None:
    turns = Turns(3)
    rounds = 0
    worked: list[tuple[int, int]] = []

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def work(number: int) -> None:
        await turns.take()
        worked.append((rounds, number))

    counting = asyncio.create_task(count())
    await asyncio.gather(*(work(number) for number in range(10)))
    counting.cancel()
    assert max(Counter(when for when, _ in worked).values()) == 3
    assert [number for _, number in worked] == [*range(10)]


async def test_one_who_gives_up_waiting_holds_up_nobody() -> None:
    turns = Turns(1)
    first, second, third = (asyncio.create_task(turns.take()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)
    assert second.cancelled()


async def test_between_works_nothing_is_run() -> None:
    turns = Turns(2)
    await turns.take()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not turns._running
    await turns.take()
    assert turns._running
