"""When waiting is of no use any more."""

from __future__ import annotations

import os
import select
import sys
from dataclasses import replace

import pytest

from cli.commands import session
from cli.commands.follow import GIVE_UP_AFTER, HELP_AFTER, _Hopes, _Live, drawn
from cluster.errors import Failed
from cluster.views import Progress, ServiceProgress
from tests.patience import PATIENCE


def progress(done: int, failures: int, other: int = 1) -> Progress:
    web = ServiceProgress("web", 3, done, failures=failures, message="exit code 1")
    return Progress("shop", 1, removing=False, services=(web, ServiceProgress("db", 1, other)))


def test_tasks_that_only_fail_end_the_wait_with_the_reason() -> None:
    hopes = _Hopes()
    hopes.check(progress(0, 0), 0)
    hopes.check(progress(0, 4), GIVE_UP_AFTER)
    with pytest.raises(Failed, match=r"shop: web failed 5 times: exit code 1") as caught:
        hopes.check(progress(0, 5), GIVE_UP_AFTER + 1)
    assert "stack ps --all shop" in caught.value.hint


@pytest.mark.parametrize(
    "last",
    [
        pytest.param(progress(0, 2), id="a failure or two may happen"),
        pytest.param(progress(1, 9), id="one more runs"),
        pytest.param(progress(0, 9, other=2), id="another service got further"),
        pytest.param(progress(3, 9), id="all run now"),
    ],
)
def test_otherwise_there_is_hope(last: Progress) -> None:
    hopes = _Hopes()
    hopes.check(progress(0, 0), 0)
    hopes.check(last, 10 * GIVE_UP_AFTER)


def test_without_failures_it_waits_on() -> None:
    hopes = _Hopes()
    for now in range(0, 1000, 50):
        hopes.check(progress(0, 0), now)


STOREFRONT = "the-storefront-of-the-european-shop-eu01"
FAILING = ServiceProgress(
    STOREFRONT, 3, 0, {"pending": 1}, 4,
    "waits 9.6 s before restart 5: exited with code 3, it said: FATAL: no database",
    2, log=("begun", "FATAL: no database"),
)  # fmt: skip


def test_what_fails_is_shown_with_its_reason_and_last_words_however_narrow() -> None:
    running = ServiceProgress("web", 3, 3, {"running": 3})
    assert drawn(Progress("shop", 2, removing=False, services=(FAILING, running)), 80, 40) == [
        "SERVICE                                   DONE  TASKS",
        "the-storefront-of-the-european-shop-eu01  0/3   1 pending, 2 yet to end",
        "    waits 9.6 s before restart 5: exited with code 3",
        "    | begun",
        "    | FATAL: no database",
        "web                                       3/3   3 running",
    ]


def test_on_a_low_screen_those_that_are_done_are_counted() -> None:
    done = [ServiceProgress(f"web{n}", 1, 1, {"running": 1}) for n in range(20)]
    lines = drawn(Progress("shop", 2, removing=False, services=(*done, FAILING)), 80, 20)
    assert len(lines) < 10 and lines[1].startswith(STOREFRONT) and lines[-1] == "and 20 more, which are done"


def test_what_is_told_meanwhile_stands_above_the_view(monkeypatch: pytest.MonkeyPatch) -> None:
    screen, terminal = os.openpty()
    monkeypatch.setenv("TERM", "xterm")
    with os.fdopen(terminal, "w", buffering=1) as said:
        monkeypatch.setattr(sys, "stderr", said)
        with _Live(transient=False) as view:
            view.update(Progress("shop", 1, removing=False, services=(ServiceProgress("web", 3, 0, {"pending": 3}),)))
            view._live.refresh()
            session._waiting("the manager is silent", 0)
        shown = ""
        while "silent" not in shown or "SERVICE" not in shown.partition("silent")[2]:  # a terminal gives it in pieces
            assert select.select([screen], [], [], PATIENCE)[0], shown
            shown += os.read(screen, 65536).decode()
    os.close(screen)
    before, _, after = shown.partition("the manager is silent\r\n")
    assert before.endswith("\x1b[2K") and after.startswith("SERVICE"), shown


def test_tasks_of_before_are_told_from_new_ones() -> None:
    web = ServiceProgress("web", 3, 0, {"assigned": 1}, leaving=3, others={"old running": 2, "ending": 1})
    assert drawn(Progress("shop", 2, removing=False, services=(web,)), 80, 40)[1:] == [
        "web      0/3   1 assigned, 1 ending, 2 old running"
    ]


WAITING = Progress("shop", 2, removing=False, services=(ServiceProgress("web", 3, 2, {"pending": 1}, message="no"),))
DONE = Progress("shop", 2, removing=False, services=(ServiceProgress("web", 3, 3, {"running": 3}),))


@pytest.mark.parametrize(
    ("last", "waited", "helped"),
    [
        pytest.param(WAITING, HELP_AFTER, True, id="comes no further"),
        pytest.param(WAITING, 0, False, id="got further just now"),
        pytest.param(DONE, HELP_AFTER, False, id="is done"),
    ],
)
def test_what_to_type_is_said_once_it_comes_no_further(last: Progress, waited: float, helped: bool) -> None:
    lines = drawn(last, 80, 40, waited)
    assert ("`stack explain shop_web` tells more; Ctrl-C ends this view" in "\n".join(lines)) is helped
    assert all(len(line) <= 80 for line in lines)


def test_of_several_that_fail_each_is_told_in_lines_of_its_own_and_nothing_twice() -> None:
    hopes = _Hopes()
    failing = (replace(FAILING, service="app"), replace(FAILING, service="db", message="out of memory", log=()))
    for now in (0, GIVE_UP_AFTER):
        hopes.check(Progress("shop", 2, removing=False, services=failing), now)
    with pytest.raises(Failed) as caught:
        hopes.check(Progress("shop", 2, removing=False, services=failing), GIVE_UP_AFTER + 1)
    assert caught.value.message.splitlines() == [
        "shop:",
        "    app failed 4 times: exited with code 3",
        "    app | begun",
        "    app | FATAL: no database",
        "    db failed 4 times: out of memory",
    ]
