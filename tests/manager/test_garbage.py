"""Garbage is collected by the clock: also while nothing more is made than is let go of."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Iterator

import pytest

from manager import garbage


class Circle:
    def __init__(self) -> None:
        self.itself = self


@pytest.fixture(autouse=True)
def _as_it_was() -> Iterator[None]:
    before = gc.get_threshold()
    yield
    gc.set_threshold(*before)
    gc.unfreeze()


async def test_a_circle_goes_though_the_collector_has_no_cause_of_its_own() -> None:
    gone = asyncio.Event()
    collecting = asyncio.create_task(garbage.collecting())
    await asyncio.sleep(0)  # what is there is left alone from now on
    circle = Circle()
    watched = weakref.ref(circle, lambda _: gone.set())
    del circle
    gc.set_threshold(0)  # whatever it would have thought of collecting
    async with asyncio.timeout(30):
        await gone.wait()
    assert watched() is None
    collecting.cancel()


def test_what_was_there_is_not_walked_through_again() -> None:
    garbage.settle()
    assert gc.get_freeze_count() > 10_000
