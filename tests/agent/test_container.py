from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.container import (
    Check,
    Event,
    Image,
    ImageWish,
    Observed,
    Phase,
    fold,
    image_from,
    image_wish,
    observe,
    platforms_from,
    started,
)
from tests.agent.builders import an_item


def test_what_an_image_says_of_itself_is_read() -> None:
    config = {"Healthcheck": {"Test": ["CMD", "true"]}, "Entrypoint": ["/e"]}
    platform = {"Os": "linux", "Architecture": "arm64", "Variant": "v8"}
    assert image_from({"Id": "sha256:1", "Config": config, **platform}) == Image(
        "sha256:1", True, ("/e",), "linux/arm64/v8"
    )
    assert image_from({"Id": "sha256:2", "Config": None}) == Image("sha256:2")


@pytest.mark.parametrize(
    ("listed", "platforms"),
    [
        pytest.param(
            [("linux", "arm64", "v8"), ("linux", "amd64", "")], ("linux/amd64", "linux/arm64/v8"), id="several"
        ),
        pytest.param([("linux", "amd64", ""), ("unknown", "unknown", "")], ("linux/amd64",), id="with attestations"),
        pytest.param([("", "", "")], (), id="a registry that does not tell"),
        pytest.param([("linux", "amd64", ""), ("linux", "", "")], (), id="one that may run anywhere"),
        pytest.param([], (), id="an old engine"),
    ],
)
def test_the_platforms_of_an_image_are_read(listed: list[tuple[str, str, str]], platforms: tuple[str, ...]) -> None:
    found = [dict(zip(("os", "architecture", "variant"), one, strict=True)) for one in listed]
    assert platforms_from(found) == platforms


def test_an_image_that_is_always_to_be_pulled_is_wished_anew_by_each_version_of_a_service() -> None:
    assert image_wish(an_item(platform="linux/arm64")) == ImageWish("box:1", "linux/arm64")
    first, second = (image_wish(an_item(version=n, pull_policy="always")) for n in (1, 2))
    assert first != second and first == image_wish(an_item(version=1, pull_policy="always"))


def inspected(**state: Any) -> dict[str, Any]:
    return {
        "Id": "c1",
        "Config": {"Labels": {"com.stackyard.task": "t1"}},
        "State": {
            "Status": "running",
            "OOMKilled": False,
            "ExitCode": 0,
            "Error": "",
            "StartedAt": "1970-01-01T00:01:40.5Z",
            "FinishedAt": "0001-01-01T00:00:00Z",
            **state,
        },
    }


@pytest.mark.parametrize(
    ("state", "expected"),
    [
        pytest.param({}, Observed("c1", "t1", Phase.RUNNING, started_at=100.5, inspected=True), id="running"),
        pytest.param(
            {"Status": "created", "StartedAt": "0001-01-01T00:00:00Z"},
            Observed("c1", "t1", Phase.CREATED, inspected=True),
            id="never started",
        ),
        pytest.param(
            {"Status": "exited", "ExitCode": 137, "OOMKilled": True, "FinishedAt": "1970-01-01T01:03:20.25+01:00"},
            Observed("c1", "t1", Phase.EXITED, 137, True, "", 100.5, 200.25, inspected=True),
            id="killed for its memory",
        ),
        pytest.param(
            {"Health": {"Status": "starting"}},
            Observed("c1", "t1", Phase.RUNNING, health="starting", started_at=100.5, inspected=True),
            id="health check has not decided",
        ),
        pytest.param(
            {
                "Status": "exited",
                "ExitCode": 0,
                "FinishedAt": "1970-01-01T01:03:20.25+01:00",
                "Health": {
                    "Status": "unhealthy",
                    "Log": [{"ExitCode": 1, "Output": "no"}, {"ExitCode": 0, "Output": "yes"}],
                },
            },
            Observed(
                "c1", "t1", Phase.EXITED, 0, False, "unhealthy", 100.5, 200.25, inspected=True, check=Check(1, b"no")
            ),
            id="stopped for its health check",
        ),
        pytest.param(
            {
                "Status": "exited",
                "ExitCode": 0,
                "FinishedAt": "1970-01-01T01:03:20.25+01:00",
                "Health": {"Status": "unhealthy", "Log": [{"ExitCode": 1, "Output": "whole\n" + "cut" * 1366 + "..."}]},
            },
            Observed(
                "c1", "t1", Phase.EXITED, 0, False, "unhealthy", 100.5, 200.25, inspected=True, check=Check(1, b"whole")
            ),
            id="a line that the engine has cut may end with a part of a secret",
        ),
        pytest.param(
            {"Status": "paused"},
            Observed("c1", "t1", Phase.RUNNING, started_at=100.5, inspected=True),
            id="paused by a person, so it still runs",
        ),
        pytest.param(
            {"Status": "removing", "ExitCode": 1},
            Observed("c1", "t1", Phase.DEAD, 1, started_at=100.5, inspected=True),
            id="being removed",
        ),
    ],
)
def test_inspect_answers_are_read(state: dict[str, Any], expected: Observed) -> None:
    assert observe(inspected(**state)) == expected


NEW = Observed("c1", "t1", Phase.CREATED, health="starting")
UP = Observed("c1", "t1", Phase.RUNNING, health="starting", started_at=10.0)


def event(action: str, at: float, **attributes: str) -> Event:
    return Event(action, "c1", at, attributes)


@pytest.mark.parametrize(
    ("seen", "what", "expected"),
    [
        pytest.param(NEW, event("start", 10.0), UP, id="it starts, and its health is open"),
        pytest.param(
            UP,
            event("die", 11.0, exitCode="3"),
            replace(UP, phase=Phase.EXITED, exit_code=3, finished_at=11.0),
            id="it dies with its exit code",
        ),
        pytest.param(UP, event("health_status: healthy", 11.0), replace(UP, health="healthy"), id="it is healthy"),
        pytest.param(UP, event("oom", 11.0), replace(UP, oom=True), id="it runs out of memory"),
        pytest.param(UP, event("destroy", 11.0), None, id="it is removed"),
        pytest.param(UP, event("die", 9.0, exitCode="1"), UP, id="the end of an earlier run says nothing of this one"),
        pytest.param(UP, event("exec_start: sh", 11.0), UP, id="somebody looks into it"),
        pytest.param(
            Observed("c1", "t1", Phase.EXITED, 1, True, "unhealthy", 1.0, 2.0, inspected=True),
            event("start", 10.0),
            UP,
            id="a new run starts with nothing of the last one",
        ),
    ],
)
def test_events_bring_what_is_known_up_to_date(seen: Observed, what: Event, expected: Observed | None) -> None:
    assert fold(seen, what) == expected


def test_an_answer_to_start_and_the_events_agree_in_any_order() -> None:
    begun, start, die = 9.9, event("start", 10.0), event("die", 10.5, exitCode="0")
    answered_first = fold(fold(started(NEW, begun), start) or NEW, die)
    events_first = fold(fold(NEW, start) or NEW, die)
    assert answered_first == events_first
    assert answered_first is not None and answered_first.phase is Phase.EXITED
