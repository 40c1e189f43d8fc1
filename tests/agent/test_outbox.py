from __future__ import annotations

import asyncio

from agent.outbox import Outbox
from cluster.model.task import TaskState, TaskStatus


def status(task: str, state: TaskState = TaskState.RUNNING) -> TaskStatus:
    return TaskStatus(task, state, 1.0)


async def test_only_the_newest_status_of_a_task_is_told() -> None:
    outbox = Outbox()
    outbox.put(status("a", TaskState.PREPARING))
    outbox.put(status("b"))
    outbox.put(status("a", TaskState.RUNNING))
    assert (await outbox.take(10, 1)).statuses == (status("a"), status("b"))


async def test_what_was_not_recorded_is_told_again_in_the_next_session_unless_something_newer_happened() -> None:
    outbox = Outbox()
    for name in "abc":
        outbox.put(status(name, TaskState.STARTING))
    first = await outbox.take(1, 9)
    second = await outbox.take(2, 9)
    outbox.recorded(first.sequence)
    outbox.put(status("b"))
    outbox.send_again()
    again = await outbox.take(10, 1)
    assert again.statuses == (status("b"), status("c", TaskState.STARTING))
    assert again.sequence > second.sequence


async def test_no_more_is_taken_while_too_many_messages_are_unanswered() -> None:
    outbox = Outbox()
    outbox.put(status("a"))
    first = await outbox.take(10, 1)
    outbox.put(status("b"))
    waiting = asyncio.create_task(outbox.take(10, 1))
    await asyncio.sleep(0)
    assert not waiting.done()
    outbox.recorded(first.sequence)
    assert (await waiting).statuses == (status("b"),)


async def test_a_task_that_nobody_asks_about_is_forgotten() -> None:
    outbox = Outbox()
    outbox.put(status("a"))
    await outbox.take(10, 9)
    outbox.put(status("a", TaskState.FAILED))
    outbox.put(status("b"))
    outbox.drop(["a"])
    outbox.send_again()
    assert (await outbox.take(10, 9)).statuses == (status("b"),)
