from __future__ import annotations

import asyncio
import logging
from pathlib import Path
from typing import Any

import pytest

from agent.journal import Entry, Journal, decode, encode
from agent.outbox import Outbox
from agent.runner import Runner
from cluster.model.task import TaskState, TaskStatus
from cluster.templates import Place
from tests.agent.builders import CLUSTER, a_network, a_set, a_task, an_item, in_network

ITEM = an_item()
TASK, PEER = in_network(a_task(ITEM), "10.128.0.5")
ENTRY = Entry(
    CLUSTER,
    ("https://10.0.0.1:2377",),
    a_set(ITEM, TASK, PEER, a_network(), revision=7, epoch=3),
    (TaskStatus(TASK.id, TaskState.FAILED, 5.0, exit_code=1),),
    4.0,
)


def test_what_is_written_is_read_again() -> None:
    assert decode(encode(ENTRY)) == ENTRY
    assert decode(encode(Entry(CLUSTER))) == Entry(CLUSTER)


def test_an_agent_that_starts_anew_out_of_reach_has_waited_for_as_long_as_the_last_one(tmp_path: Path) -> None:
    runner = a_runner(tmp_path)
    runner.resume(ENTRY)
    runner.offline()
    assert runner.entry().offline_since == 4.0
    runner.online()
    assert runner.entry().offline_since is None
    after = a_runner(tmp_path)
    after.resume(runner.entry())
    began = after.entry().offline_since
    assert began is not None and began > 4.0


def a_runner(path: Path) -> Runner:
    rest: Any = None  # what only its steps ask
    place = Place("id-n1", "n1", "linux", "amd64")
    journal = Journal(path / "journal.json")
    return Runner(rest, rest, Outbox(), journal, cluster=CLUSTER, files=path, address="", place=place, secrets=rest)


async def test_a_change_reaches_the_disk_when_it_is_flushed_and_only_root_can_read_it(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = Journal(path)
    writing = asyncio.create_task(journal.run(lambda: ENTRY))
    await asyncio.sleep(0)
    journal.changed()
    await journal.flush()
    assert journal.read(CLUSTER) == ENTRY
    assert path.stat().st_mode & 0o777 == 0o600
    writing.cancel()


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(None, id="there is none"),
        pytest.param(b"", id="it is empty"),
        pytest.param(b"{", id="it was cut off"),
        pytest.param(encode(ENTRY)[:-10], id="its end is missing"),
        pytest.param(encode(ENTRY).replace(b'"schema":1', b'"schema":2'), id="a newer agent wrote it"),
        pytest.param(encode(Entry("another")), id="it is of another cluster"),
    ],
)
def test_an_agent_starts_without_the_journal_when(
    content: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "journal.json"
    if content is not None:
        path.write_bytes(content)
    assert Journal(path).read(CLUSTER) == Entry(CLUSTER)
    assert bool(caplog.records) is (content is not None)


async def test_a_disk_that_fails_is_logged_and_the_agent_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    journal = Journal(tmp_path / "missing" / "journal.json")
    writing = asyncio.create_task(journal.run(lambda: ENTRY))
    await asyncio.sleep(0)
    journal.changed()
    with caplog.at_level(logging.WARNING):
        await journal.flush()
    assert "cannot be written" in caplog.text
    assert not writing.done()
    writing.cancel()
