"""When waiting is of no use any more."""

from __future__ import annotations

import pytest

from cli.commands.follow import GIVE_UP_AFTER, _Hopes
from cluster.errors import Failed
from cluster.views import Progress, ServiceProgress


def progress(done: int, failures: int, other: int = 1) -> Progress:
    web = ServiceProgress("web", 3, done, failures=failures, message="exit code 1")
    return Progress("shop", 1, removing=False, services=(web, ServiceProgress("db", 1, other)))


def test_tasks_that_only_fail_end_the_wait_with_the_reason() -> None:
    hopes = _Hopes()
    hopes.check(progress(0, 0), 0)
    hopes.check(progress(0, 4), GIVE_UP_AFTER)
    with pytest.raises(Failed, match=r"shop: web failed 5 times \(exit code 1\)") as caught:
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
