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
        f"n1: app_web.1 {pull} (2 times)",
        f"-> {change}",
    ]


def test_what_many_tasks_wait_for_is_told_once() -> None:
    troubles = tuple(Trouble(f"app_web.{n}", "no node fits", "reserve less") for n in range(1, 6))
    told = in_words(Explanation("app_web", "app_web", 5, 0, troubles, ()), 40).splitlines()
    assert told[1:] == ["  app_web.1, app_web.2, app_web.3 and 2", "    more: no node fits", "    -> reserve less"]


NOTHING_WRONG = Explanation("app_web", "app_web", 1, 1, (), ())


def test_nothing_is_wrong() -> None:
    assert in_words(NOTHING_WRONG, 0).splitlines()[1].strip() == "nothing is wrong with it"
