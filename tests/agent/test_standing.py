"""The one line of how a node fares."""

from __future__ import annotations

import pytest

from agent.standing import line
from cluster.model.task import TaskState, TaskStatus

S = TaskState
SECRETS = "waits for a manager to give its secrets and configs"


@pytest.mark.parametrize(
    ("states", "conditions", "offline", "told"),
    [
        ([], {}, False, "0 tasks run"),
        ([(S.RUNNING, ""), (S.FAILED, "exited with code 1")], {}, False, "1 task runs"),
        ([(S.RUNNING, "")] * 2 + [(S.STARTING, "")], {}, False, "2 tasks run, 1 not yet"),
        (
            [(S.RUNNING, "")] * 2 + [(S.STARTING, SECRETS)] * 3,
            {},
            True,
            f"2 tasks run, 3 not yet ({SECRETS}), no manager answers",
        ),
        ([], {"engine": "it does not\nanswer"}, False, "0 tasks run; it does not answer"),
    ],
)
def test_it_tells_what_runs_what_waits_and_why(
    states: list[tuple[TaskState, str]], conditions: dict[str, str], offline: bool, told: str
) -> None:
    statuses = [TaskStatus(str(n), state, 0.0, message) for n, (state, message) in enumerate(states)]
    assert line(statuses, conditions, offline=offline) == told
