"""What counts as a time in which the leader did not listen, by a clock that only moves while etcd works."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from manager.control import LONGEST_SLEEP, STALL, Control
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
        self.control = Control(self, self, (), lambda: NOW, lambda: self.monotonic)

    def heard(self, changes: list[Change]) -> None:
        if hasattr(self, "control"):
            self.control.changed(changes)

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Operation]) -> TxnResult:
        self.monotonic += self.seconds
        self.answers += 1
        result = self.store.txn(compares, ops)
        self.catch_up()
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
