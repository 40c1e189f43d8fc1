"""The leader's loop on a real etcd."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from cluster.codec import PREFIX, encode, key_of
from cluster.model.cluster import Cluster
from cluster.model.node import Manager, Node, Session, SessionState
from cluster.model.task import TaskState, TaskStatus
from manager.control import Control
from manager.decide import orchestrator
from manager.etcd import Compare, Etcd, Operation, TxnResult, UnknownOutcome, created_at, delete, delete_prefix, put
from manager.follow import Follower
from manager.invariants import broken
from tests.etcd_server import Servers, running
from tests.manager.decide.builders import NOW, a_description, a_service, a_stack, next_revision
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

LEADER = "/stackyard/test-leader"


@pytest.fixture(scope="module")
def server() -> Iterator[Servers]:
    with running("3.4") as servers:
        yield servers


class Unsure:
    """etcd, of which some answers get lost: each `every`th one, after or before it did what it was asked."""

    def __init__(self, etcd: Etcd, every: int = 0) -> None:
        self.etcd, self.every, self.calls = etcd, every, 0

    async def txn(self, compares: Sequence[Compare], ops: Sequence[Operation]) -> TxnResult:
        self.calls += 1
        lost = self.every and self.calls % self.every == 0
        if lost and self.calls % (2 * self.every):
            raise UnknownOutcome("the request is lost")
        result = await self.etcd.txn(compares, ops)
        if lost:
            raise UnknownOutcome("the answer is lost")
        return result


class Leading:
    """A manager that leads a cluster of three nodes; tests write what people and agents write."""

    def __init__(self, etcd: Etcd, follower: Follower) -> None:
        self.etcd, self.follower = etcd, follower
        self.state = follower.state

    async def write(self, *records: Any) -> int:
        result = await self.etcd.txn((), [put(key_of(record), encode(record)) for record in records])
        await self.follower.reached(result.revision)
        return result.revision

    async def deploy(self, *services: Any, name: str = "app") -> None:
        await self.write(*next_revision(self.state, a_stack(name, *services)))

    async def until(self, holds: Callable[[], bool]) -> None:
        """Wait, change by change, until something holds in the picture."""
        async with asyncio.timeout(PATIENCE):
            await self.follower.until(holds)
        assert not broken(self.state)

    def placed(self) -> int:
        return sum(task.node is not None for task in self.state.tasks.values())


@asynccontextmanager
async def leading(server: Servers, wrap: Callable[[Etcd], Any] = Unsure) -> AsyncIterator[Leading]:
    async with Etcd.connect(server.endpoints) as etcd:
        await etcd.txn((), [delete_prefix(PREFIX)])
        await etcd.txn((), [put(LEADER, b"me")])
        leader = await etcd.get(LEADER)
        assert leader is not None
        follower = Follower(etcd)
        async with asyncio.TaskGroup() as group:
            following = group.create_task(follower.run())
            await follower.loaded.wait()
            lead = Leading(etcd, follower)
            await lead.write(Cluster("c1", NOW), Manager("m1", "m1", "https://m1", NOW))
            for name in ("n1", "n2", "n3"):
                await lead.write(Node(f"id-{name}", name, "worker", NOW))
                await lead.write(Session(f"id-{name}", 1, "m1", SessionState.OPEN, NOW, a_description(name)))
            control = Control(wrap(etcd), follower, (created_at(LEADER, leader.create_revision),), time.time)
            with follower.listening(control.changed):
                controlling = group.create_task(control.run())
                await lead.until(lambda: len(lead.state.node_states) == 3)
                yield lead
                controlling.cancel()
                following.cancel()


async def test_a_hundred_replicas_are_placed_at_once(server: Servers) -> None:
    async with leading(server) as lead:
        await lead.deploy(a_service("web", replicas=100))
        await lead.until(lambda: lead.placed() == 100)
        assert lead.state.load == {"id-n1": 34, "id-n2": 33, "id-n3": 33}


async def test_lost_requests_and_answers_do_nothing_twice(server: Servers) -> None:
    async with leading(server, lambda etcd: Unsure(etcd, every=2)) as lead:
        await lead.deploy(a_service("web", replicas=150), a_service("db", replicas=3, volumes=("app_data",)))
        await lead.until(lambda: lead.placed() == 153)
        assert len(lead.state.tasks) == 153


async def test_a_waiting_task_is_started_when_its_instant_comes(server: Servers) -> None:
    async with leading(server) as lead:
        await lead.deploy(a_service("web"))
        await lead.until(lambda: lead.placed() == 1)
        for failures in (1, 2):
            [task] = [task for task in lead.state.tasks.values() if lead.state.is_live(task)]
            await lead.write(TaskStatus(task.id, TaskState.FAILED, time.time(), exit_code=1))
            began = time.monotonic()
            made = failures + 1
            await lead.until(lambda: lead.placed() == made)  # noqa: B023
            assert failures < 2 or time.monotonic() - began >= 0.9


async def test_a_leader_that_was_put_aside_decides_in_vain(server: Servers, caplog: pytest.LogCaptureFixture) -> None:
    async with leading(server) as lead:
        await lead.etcd.txn((), [delete(LEADER)])
        refused = _logged(caplog, "looking again")
        await lead.deploy(a_service("web"))
        await refused
        assert not lead.state.services and not lead.state.tasks


async def test_a_bug_in_deciding_one_service_sets_it_aside_and_others_go_on(
    server: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, broken_now = orchestrator.deciding, True

    def deciding(state: Any, uid: str, now: float) -> Any:
        if broken_now and state.services[uid].name == "bad" and not state.services[uid].quarantined_until:
            raise ZeroDivisionError("a bug")
        return (yield from real(state, uid, now))

    monkeypatch.setattr(orchestrator, "deciding", deciding)
    async with leading(server) as lead:
        await lead.deploy(a_service("bad"), a_service("good"))

        def service(name: str) -> Any:
            return next((s for s in lead.state.services.values() if s.name == name), None)

        await lead.until(lambda: lead.placed() == 1 and service("bad").quarantined_until is not None)
        assert "ZeroDivisionError: a bug" in service("bad").problem
        broken_now = False
        await lead.until(lambda: lead.placed() == 2 and service("bad").problem == "")
        assert service("bad").quarantined_until is None and service("bad").quarantines == 0


async def test_the_event_loop_is_never_held_for_long(server: Servers) -> None:
    longest, start = 0.0, time.thread_time()

    async def watch() -> None:
        nonlocal longest
        while True:
            began = time.thread_time()
            await asyncio.sleep(0)
            longest = max(longest, time.thread_time() - began)

    async with leading(server) as lead:
        async with asyncio.TaskGroup() as group:
            watching = group.create_task(watch())
            await lead.deploy(a_service("web", replicas=2000))
            await lead.until(lambda: lead.placed() == 2000)
            await lead.deploy(a_service("web", replicas=0))
            await lead.until(lambda: not any(map(lead.state.is_live, lead.state.tasks.values())))
            watching.cancel()
    whole = time.thread_time() - start
    assert longest < whole / 6, f"{longest:.3f} s of one thread at once, of {whole:.3f} s; a twenty-fifth is usual"


def _logged(caplog: pytest.LogCaptureFixture, words: str) -> Awaitable[None]:
    """Wait until something is logged."""
    future = asyncio.get_running_loop().create_future()

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if words in record.getMessage() and not future.done():
                future.set_result(None)

    logger = logging.getLogger("manager.control")
    caplog.set_level(logging.INFO, logger="manager.control")
    listener = Listener()
    logger.addHandler(listener)
    future.add_done_callback(lambda _: logger.removeHandler(listener))
    return asyncio.wait_for(future, PATIENCE)
