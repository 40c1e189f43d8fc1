"""What counts as a time in which the leader did not listen, by a clock that only moves while etcd works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from manager.control import LONGEST_COMMIT, LONGEST_SLEEP, SLICE, STALL, Control
from manager.decide.plan import LONGEST
from manager.etcd import Compare, Operation, TxnResult
from manager.picture import Change, ClusterState
from tests.manager.decide.builders import NOW, Lab, a_service, a_stack

REPLICAS = 300


class Slow(Lab):
    """A cluster whose etcd takes so many seconds for each transaction, and a leader that is told of all."""

    def __init__(self, seconds: float) -> None:
        super().__init__("n1")
        self.deploy(a_stack("app", a_service("web", replicas=REPLICAS)))
        self.seconds, self.monotonic, self.answers = seconds, 0.0, 0
        self.placed = asyncio.Event()
        self.still = asyncio.Lock()
        self.joins_late = ""
        self.placed_before = 0
        """How many tasks were placed when the leader found the node that joined late."""
        self.control = Control(self, self, (), lambda: NOW, lambda: self.monotonic)

    def heard(self, changes: list[Change]) -> None:
        if hasattr(self, "control"):
            self.control.changed(changes)

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Operation]) -> TxnResult:
        self.monotonic += self.seconds
        self.answers += 1
        result = self.store.txn(compares, ops)
        self.catch_up()
        if self.joins_late and self.state.tasks:
            self.join(self.joins_late)
            self.joins_late = ""
        if not self.placed_before and len(self.state.node_states) == 2:
            self.placed_before = len(self.state.tasks)
        if len(self.state.tasks) == REPLICAS:
            self.placed.set()
        return result

    async def reached(self, revision: int) -> None:
        assert self.state.revision >= revision


async def lead(slow: Slow) -> None:
    leading = asyncio.create_task(slow.control.run())
    await slow.placed.wait()
    leading.cancel()
    await asyncio.wait([leading])


async def test_a_leader_listens_while_a_long_plan_is_written(caplog: pytest.LogCaptureFixture) -> None:
    slow = Slow(1.0)
    state: ClusterState = slow.state
    await lead(slow)
    assert slow.answers > 4 and slow.monotonic > LONGEST_SLEEP + STALL and len(state.tasks) == REPLICAS
    assert "did not listen" not in caplog.text


async def test_a_leader_did_not_listen_while_one_answer_of_etcd_took_long(caplog: pytest.LogCaptureFixture) -> None:
    await lead(Slow(LONGEST_SLEEP + STALL + 0.1))
    assert "did not listen for 1.6 s" in caplog.text


@pytest.mark.parametrize(
    ("seconds", "first"), [(0.0, False), (LONGEST_COMMIT + 0.1, True)], ids=["as it goes fast", "as it takes long"]
)
async def test_a_long_plan_is_left_for_what_is_more_pressing(seconds: float, first: bool) -> None:
    slow = Slow(seconds)
    slow.joins_late = "n2"
    await lead(slow)
    whole = LONGEST - 1  # one step gives the service its virtual address
    assert (slow.placed_before < whole) is first


async def test_the_picture_stands_still_while_a_service_is_decided_piece_by_piece() -> None:
    slow = Slow(0.0)
    ticks, seen = 0, set[bool]()

    def clock() -> float:
        nonlocal ticks
        ticks += 1
        return ticks * 2 * SLICE  # so that each piece is a long one

    async def watch() -> None:
        while True:
            seen.add(slow.still.locked())
            await asyncio.sleep(0)

    slow.control = Control(slow, slow, (), lambda: NOW, clock)
    watching = asyncio.create_task(watch())
    await lead(slow)
    watching.cancel()
    assert seen == {True, False}
