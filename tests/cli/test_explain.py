"""How `stack explain` words what a manager tells."""

from __future__ import annotations

import pytest

from cli.commands.explain import in_words
from cluster.views import Explanation, NodeFit, Trouble


@pytest.fixture(autouse=True)
def of_any_width(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)  # pytest's workers have that of their terminal


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
    lines = [" ".join(line.split()) for line in in_words(found).splitlines()]
    assert lines == [
        "app_web.1: 1 of 2 tasks of app_web run",
        "app_web.1: waits 4.0 s before restart 3",
        f"-> {change}",
        "port 80/tcp: it is taken",
        "",
        "NODE TASKS ONE MORE WHAT WOULD MAKE IT FIT",
        "n1 1 fits",
        f"app_web.1 {pull} (2 times) {change}",
        "n2 0 is drained activate it",
        "lacks CPU reserve less",
    ]


def test_nothing_is_wrong() -> None:
    assert (
        in_words(Explanation("app_web", "app_web", 1, 1, (), ())).splitlines()[1].strip() == "nothing is wrong with it"
    )
