"""Turns on the event loop: few in each round, in order, and nothing left running when nobody works."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest

from manager.turns import Turns


async def rounds_of(turns: Turns, number: int, seconds: float = 0.0, clock: list[float] | None = None) -> list[int]:
    """Have so many work at once, each for so long; tell how many did in each round, in the order of their coming."""
    rounds, worked = 0, list[tuple[int, int]]()

    async def count() -> None:
        nonlocal rounds
        while True:
            rounds += 1
            await asyncio.sleep(0)

    async def work(who: int) -> None:
        await turns.take()
        worked.append((rounds, who))
        if clock is not None:
            clock[0] += seconds

    counting = asyncio.create_task(count())
    await asyncio.gather(*(work(who) for who in range(number)))
    counting.cancel()
    assert [who for _, who in worked] == [*range(number)]
    return [*Counter(when for when, _ in worked).values()]


async def test_many_who_come_together_work_a_few_in_each_round_in_the_order_in_which_they_came() -> None:
    assert max(await rounds_of(Turns(3, 1.0), 10)) == 3


@pytest.mark.parametrize(("seconds", "most"), [(0.001, 8), (0.004, 3), (0.02, 1), (1.0, 1)])
async def test_where_turns_are_long_fewer_have_theirs_in_a_round(seconds: float, most: int) -> None:
    clock = [0.0]
    turns = Turns(8, 0.01, lambda: clock[0])
    assert max(await rounds_of(turns, 20, seconds, clock)) == most


async def test_one_who_gives_up_waiting_holds_up_nobody() -> None:
    turns = Turns(1, 1.0)
    first, second, third = (asyncio.create_task(turns.take()) for _ in range(3))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.gather(first, third)
    assert second.cancelled()


async def test_between_works_nothing_is_run() -> None:
    turns = Turns(2, 1.0)
    await turns.take()
    for _ in range(3):
        await asyncio.sleep(0)
    assert not turns._running
    await turns.take()
    assert turns._running
