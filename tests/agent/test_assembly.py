from __future__ import annotations

from dataclasses import replace

import pytest

from agent.assembly import Assembler, OutOfOrder
from cluster.assignments import Assignments, Item, PeerItem, PortItem, TaskItem
from cluster.model.service import PortSpec
from cluster.protocol import Page, paginate
from cluster.topics import PORTS
from tests.agent.builders import a_set, a_task, an_item

ITEM = an_item()
ONE, TWO = a_task(ITEM, 1), a_task(ITEM, 2)
TASKS = {t.id: TaskItem(t) for t in (ONE, TWO)}


def full(revision: int = 5, *tasks: TaskItem, epoch: int = 3, last: bool = True) -> Page:
    return Page(epoch, revision, full=True, last=last, tasks=tasks)


def change(revision: int, *tasks: TaskItem, removed: tuple[str, ...] = (), epoch: int = 3) -> Page:
    return Page(epoch, revision, full=False, last=True, tasks=tasks, removed=removed)


def test_a_full_set_counts_only_when_its_last_page_is_there() -> None:
    assembler = Assembler(3, Assignments())
    assert assembler.feed(full(5, TaskItem(ONE), last=False)) is None
    given = assembler.feed(full(5, TaskItem(TWO)))
    assert given is not None
    assert set(given.items) == {f"task/{ONE.id}", f"task/{TWO.id}"}
    assert (given.epoch, given.revision) == (3, 5)


def test_a_full_set_takes_the_place_of_everything_that_was_known() -> None:
    assembler = Assembler(3, a_set(ONE, revision=4))
    given = assembler.feed(full(5, TaskItem(TWO)))
    assert given is not None
    assert list(given.items) == [f"task/{TWO.id}"]


def test_topics_that_are_kept_stay_as_they_were_known() -> None:
    peers = {name: PeerItem(name, "t1", "n1", "10.0.0.1", ("10.1.0.2",), "", ready=True) for name in ("f1", "f2")}
    port = PortItem("u1", PortSpec(80, 8080))
    known: tuple[Item, ...] = (*peers.values(), port, TaskItem(ONE))
    assembler = Assembler(3, Assignments(2, 4, {item.ident: item for item in known}))
    fresh = replace(peers["f2"], ready=False)
    assert assembler.feed(Page(3, 5, full=True, last=False, peers=(fresh,))) is None
    given = assembler.feed(Page(3, 5, full=True, last=True, tasks=(TaskItem(TWO),), kept=("f1", PORTS)))
    assert given is not None
    assert set(given.items.values()) == {peers["f1"], fresh, port, TaskItem(TWO)}


def test_a_change_adds_replaces_and_removes() -> None:
    assembler = Assembler(3, Assignments())
    assembler.feed(full(5, TaskItem(ONE)))
    given = assembler.feed(change(6, TaskItem(TWO), removed=(f"task/{ONE.id}",)))
    assert given is not None
    assert list(given.items) == [f"task/{TWO.id}"]
    assert given.revision == 6


def test_what_pagination_cuts_is_put_together_again() -> None:
    tasks = tuple(TaskItem(a_task(ITEM, slot)) for slot in range(1, 600))
    pages = paginate(3, 9, (ITEM, *tasks), full=True)
    assert len(pages) > 1
    assembler = Assembler(3, Assignments())
    given = [assembler.feed(page) for page in pages]
    assert given[:-1] == [None] * (len(pages) - 1)
    assert given[-1] is not None
    assert len(given[-1].items) == 600


@pytest.mark.parametrize(
    "pages",
    [
        pytest.param([full(5, epoch=2)], id="it is of an older session"),
        pytest.param([full(3)], id="it is older than what was acted on before"),
        pytest.param([full(5), change(4)], id="it is older than the set before it"),
        pytest.param([change(5)], id="it changes a set that was never given"),
        pytest.param([full(5, last=False), full(6)], id="it begins before the last one ended"),
    ],
)
def test_a_set_is_not_acted_on_when(pages: list[Page]) -> None:
    assembler = Assembler(3, Assignments(2, 4, {}))
    for page in pages[:-1]:
        assembler.feed(page)
    with pytest.raises(OutOfOrder):
        assembler.feed(pages[-1])
