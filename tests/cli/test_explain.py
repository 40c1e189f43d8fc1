"""How `stack explain` words what a manager tells."""

from __future__ import annotations

from cli.commands.explain import in_words
from cluster.views import Explanation, NodeFit, Trouble


def test_each_node_tells_why_it_does_not_fit_and_what_failed_there_lately() -> None:
    pull = "rejected: image web:2 cannot be had: manifest unknown"
    change = "correct the image's name and tag"
    found = Explanation(
        "app_web.1",
        "app_web",
        2,
        1,
        (Trouble("app_web.1", "waits 4.0 s before restart 3", change), Trouble("port 80/tcp", "it is taken")),
        (
            NodeFit("n1", 1, True, lately=(Trouble("app_web.1", f"{pull} (2 times)", change),)),
            NodeFit(
                "n2", 0, False, (Trouble("n2", "is drained", "activate it"), Trouble("n2", "lacks CPU", "reserve less"))
            ),
        ),
    )
    lines = [" ".join(line.split()) for line in in_words(found, 0).splitlines()]
    assert lines == [
        "app_web.1: 1 of 2 tasks of app_web run",
        "app_web.1: waits 4.0 s before restart 3",
        f"-> {change}",
        "port 80/tcp: it is taken",
        "",
        "NODE TASKS ONE MORE WHAT WOULD MAKE IT FIT",
        "n1 1 fits",
        "n2 0 is drained activate it",
        "lacks CPU reserve less",
        "",
        "What failed lately:",
        f"n1 (2 times): app_web.1 {pull}",
    ]


def test_what_many_tasks_wait_for_is_told_once() -> None:
    troubles = tuple(Trouble(f"app_web.{n}", "no node fits", "reserve less") for n in range(1, 6))
    told = in_words(Explanation("app_web", "app_web", 5, 0, troubles, ()), 40).splitlines()
    assert told[1:] == ["  app_web.1, app_web.2, app_web.3 and 2", "    more: no node fits", "    -> reserve less"]


NOTHING_WRONG = Explanation("app_web", "app_web", 1, 1, (), ())


def test_nothing_is_wrong() -> None:
    assert in_words(NOTHING_WRONG, 0).splitlines()[1].strip() == "nothing is wrong with it"


def test_what_failed_on_several_nodes_for_the_reason_above_is_told_once() -> None:
    cause = 'unable to start container process: exec: "nosuchprog": executable file not found in $PATH'
    advice = "correct the command or entrypoint: the image has no such program that {} can run"

    def on(node: str, times: str = "") -> NodeFit:
        return NodeFit(node, 1, True, lately=(Trouble("app_web.1", f"rejected: {cause}{times}", advice.format(node)),))

    paused = Trouble("app_web", f"its update is paused: 1 of 3 new tasks failed: {cause}", "go on, or go back")
    waits = Trouble("app_web.1", f"waits 2.5 s before restart 3: {cause}", advice.format("n2"))
    other = Trouble("app_web.2", f"waits 4.0 s before restart 4: {cause}", advice.format("n1"))
    found = Explanation(
        "app_web", "app_web", 3, 2, (paused, waits, other), (on("n1"), on("n2", " (2 times)"), on("n3"))
    )
    lines = in_words(found, 0).splitlines()
    assert lines[:6] == [
        "app_web: 2 of 3 tasks run",
        f"  app_web: its update is paused: 1 of 3 new tasks failed: {cause}",
        "    -> go on, or go back",
        "  app_web.1: waits 2.5 s before restart 3, as above",
        f"    -> {advice.format('n2')}",
        "  app_web.2: waits 4.0 s before restart 4, as above",
    ]
    assert lines[-2:] == ["What failed lately:", "  n1, n2 (2 times), n3: app_web.1 rejected, as above"]
