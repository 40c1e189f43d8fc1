"""The picture as people see it: rows are made once, and always tell how it is."""

from __future__ import annotations

import msgspec

from cluster.model.node import NodeState, NodeStatus
from cluster.model.task import TaskState
from cluster.protocol import EXAMINES
from manager.api import show
from manager.api.reach import find_task
from tests.manager.decide.builders import NOW, Lab, a_service, a_stack


def test_rows_of_tasks_are_kept_and_never_old() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service(replicas=3, constraints=("node.hostname == n1",)), a_service("db")))
    rows = show.TaskRows()

    def right() -> dict[str, bytes]:
        found = {task.id: rows.of(lab.state, task) for task in lab.state.tasks.values()}
        for uid in lab.state.services:
            told = [found[task.id] for task in show.tasks_of(lab.state, uid)]
            assert b",".join(rows.of_service(lab.state, uid)) == b",".join(told), "as one piece too"
            assert len(list(rows.of_service(lab.state, uid))) == 1, "and kept"
        assert found == {ident: msgspec.json.encode(show.task(lab.state, t)) for ident, t in lab.state.tasks.items()}
        return found

    lab.settle()
    waiting = right()
    lab.run_all()
    running = right()
    assert not set(waiting.values()) & set(running.values())
    again = right()
    assert all(again[ident] is row for ident, row in running.items()), "what has not changed is not made anew"
    lab.wait(60.0)
    lab.fall_silent("n1")
    lab.wait(2.0)
    right()
    lost = [task for task in lab.state.tasks.values() if lab.state.state_of(task) is TaskState.PENDING]
    assert lost, "the state is another, although neither task nor status have changed"


def test_what_failed_of_an_older_version_is_no_trouble_of_the_newest() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service(image="bad")))
    lab.settle()
    lab.report(lab.task(), TaskState.FAILED, message="exited with code 3", log=("no such table",))
    [service] = lab.state.services
    assert show.problem(lab.state, service) == "exited with code 3"
    assert show.last_words(lab.state, service) == ("no such table",)
    lab.deploy(a_stack("app", a_service(image="good")))
    lab.run_all()
    assert (show.problem(lab.state, service), show.last_words(lab.state, service)) == ("", ())


def test_any_task_will_do_but_one_of_a_node_that_is_lost() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service(replicas=2)))
    lab.run_all()
    first = find_task(lab.state, "web", "exec")
    assert first.slot == 1
    lab.wait(60.0)
    lab.fall_silent(lab.state.nodes[first.node or ""].name)
    lab.wait(2.0)
    lab.settle()
    assert find_task(lab.state, "web", "exec").node not in (first.node, None)


def test_a_stack_tells_what_runs_of_any_version_and_whose_update_waits() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service(replicas=2), a_service("db", stopped=True)))
    lab.run_all()
    [stack] = lab.state.stacks.values()
    told = show.stack(lab.state, stack, lab.now)
    assert (told.phase, told.running, told.up, told.wanted, told.paused, told.stopped) == ("running", 2, 2, 2, 0, 1)
    lab.deploy(a_stack("app", a_service(replicas=2, image="bad"), a_service("db", stopped=True)))
    lab.settle()
    [newest] = [task for task in lab.state.tasks.values() if task.version == 2]
    lab.report(newest, TaskState.FAILED, message="exited with code 3")
    lab.settle()
    [stack] = lab.state.stacks.values()
    told = show.stack(lab.state, stack, lab.now)
    assert (told.phase, told.running, told.up, told.wanted, told.paused) == ("converging", 0, 1, 2, 1)


def test_a_way_is_a_trouble_only_while_the_other_node_is_there_to_answer() -> None:
    lab = Lab("n1", "n2", "n3", "n4")
    lab.write(*(NodeState(f"id-{n}", NodeStatus.READY, NOW) for n in ("n1", "n2", "n3")))
    lab.session("n3", version=EXAMINES - 1)
    ways = {f"way/id-{n}": f"{n} is silent" for n in ("n2", "n3", "n4", "n5")}
    lab.session("n1", conditions={"disk": "nearly full", **ways})
    shown = show.node(lab.state, lab.state.nodes["id-n1"])
    assert shown.conditions == {"disk": "nearly full", "way/id-n2": "n2 is silent"}


def test_rows_that_change_while_they_are_told_are_not_kept_as_one_piece() -> None:
    lab = Lab("n1")
    lab.deploy(a_stack("app", a_service(replicas=2)))
    lab.settle()
    [uid], rows = lab.state.services, show.TaskRows()
    telling = rows.of_service(lab.state, uid)
    first = next(telling)
    lab.run_all()
    list(telling)
    assert first not in b",".join(rows.of_service(lab.state, uid)), "they wait no more"
