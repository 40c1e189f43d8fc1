"""A bug in deciding one service: it is set aside, visibly and ever longer, while all others go on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from cluster.model.service import RestartPolicy, ServiceMode, ServiceState
from cluster.model.task import TaskState
from manager.api.show import problem
from manager.decide import orchestrator
from manager.decide.slots import ServicePicture, Wanted
from manager.leader import FIRST_QUARANTINE, LONGEST_QUARANTINE, Leader
from tests.manager.decide.builders import Lab, a_service, a_stack
from tests.manager.decide.test_explain import explained


def never(picture: ServicePicture) -> bool:
    return False


class Bug:
    """Breaks the deciding of the service `bad` while `here` says so, and counts how often it was tried."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.here: Callable[[ServicePicture], bool] = lambda picture: True
        self.tried = 0
        self._real = orchestrator.MODES[ServiceMode.REPLICATED]
        monkeypatch.setitem(orchestrator.MODES, ServiceMode.REPLICATED, self._wanted)

    def _wanted(self, picture: ServicePicture) -> Wanted:
        if picture.spec.name == "bad":
            self.tried += 1
            if self.here(picture):
                raise ZeroDivisionError("a bug")
        return self._real(picture)


@pytest.fixture
def bug(monkeypatch: pytest.MonkeyPatch) -> Bug:
    return Bug(monkeypatch)


def bad(lab: Lab) -> ServiceState:
    [found] = [service for service in lab.state.services.values() if service.name == "bad"]
    return found


def a_lab_with_a_bug() -> Lab:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("bad"), a_service("good")))
    lab.settle()
    return lab


def test_others_go_on_and_people_see_it(bug: Bug) -> None:
    lab = a_lab_with_a_bug()
    assert lab.places("good") == {"n1": 1} and not lab.tasks("bad")
    told = "set aside after a bug: ZeroDivisionError: a bug"
    assert problem(lab.state, bad(lab).uid) == told
    [trouble] = explained(lab, "app_bad").troubles
    assert (trouble.about, trouble.why) == ("app_bad", told) and "report it" in trouble.change


def test_it_is_tried_again_ever_later_also_by_a_new_leader_and_never_in_between(bug: Bug) -> None:
    lab = a_lab_with_a_bug()
    waits = []
    for _ in range(10):
        until = bad(lab).quarantined_until
        assert until is not None
        waits.append(until - lab.now)
        lab.leader = Leader(lab.state, lab.now)
        lab.wait((until - lab.now) / 2)
        lab.session("n2", conditions={"clock": str(until)})
        lab.settle()
        tried = bug.tried
        lab.wait(until - lab.now)
        assert bug.tried == tried + 1
    assert waits[:3] == [FIRST_QUARANTINE, 2 * FIRST_QUARANTINE, 4 * FIRST_QUARANTINE]
    assert waits[-1] == LONGEST_QUARANTINE
    bug.here = never
    lab.wait(LONGEST_QUARANTINE)
    assert len(lab.tasks("bad")) == 1
    assert (bad(lab).problem, bad(lab).quarantines, bad(lab).quarantined_revision) == ("", 0, None)


def test_what_waited_meanwhile_is_still_done_in_its_time(bug: Bug) -> None:
    bug.here = never
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service("bad", restart=RestartPolicy(delay=30.0)), a_service("good")))
    lab.run_all()
    lab.report(lab.task("bad"), TaskState.FAILED, exit_code=1)
    lab.settle()
    waiting = lab.task("bad")
    bug.here = lambda picture: True
    lab.session("n1", conditions={"clock": "it is wrong"})
    lab.leader.ask_all(lab.now)
    lab.settle()
    assert bad(lab).quarantined_until is not None
    bug.here = never
    lab.wait(FIRST_QUARANTINE)
    assert lab.task("bad") == waiting
    wake = lab.leader.agenda.next_wake()
    assert wake is not None and wake <= waiting.not_before
    lab.wait(waiting.not_before - lab.now)
    assert lab.task("bad").node == "id-n1"


@pytest.mark.parametrize("mended", [True, False])
def test_a_deploy_is_tried_at_once_and_counts_as_another_failure(bug: Bug, mended: bool) -> None:
    lab = a_lab_with_a_bug()
    lab.wait(FIRST_QUARANTINE)
    assert bad(lab).quarantines == 2
    bug.here = lambda picture: picture.head.n == 1 or not mended
    lab.deploy(a_stack("app", a_service("bad", image="app:2"), a_service("good")))
    lab.settle()
    assert len(lab.tasks("bad")) == mended
    assert (bad(lab).quarantines, bool(bad(lab).problem)) == ((0, False) if mended else (3, True))


def test_it_can_be_removed_at_once(bug: Bug) -> None:
    lab = a_lab_with_a_bug()
    lab.remove("app")
    lab.run_all()
    assert not lab.state.stacks and not lab.state.services


def test_one_that_was_set_aside_by_an_older_leader_waits_as_it_did_there(bug: Bug) -> None:
    lab = a_lab_with_a_bug()
    lab.write(dataclasses.replace(bad(lab), quarantined_revision=None))
    tried = bug.tried
    lab.deploy(a_stack("app", a_service("bad", image="app:2"), a_service("good")))
    lab.settle()
    assert bug.tried == tried
