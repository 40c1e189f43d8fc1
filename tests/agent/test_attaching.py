"""What becomes of a container that was started by hand, by what the engine says of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from agent.attaching import PATIENCE, judge, seen_from
from agent.container import LABEL_CLUSTER
from cluster.assignments import AttachmentItem
from cluster.model.attachment import AttachmentState
from cluster.model.network import Endpoint

NOW = 1_800_000_000.0
ENDPOINT, OTHER = Endpoint("net", ("10.9.0.4",)), Endpoint("net", ("10.9.0.5",))
PINNED = AttachmentItem("a1", "net", "debug", "c1", ENDPOINT)
ASKED = AttachmentItem("q", "net", "debug")
DNS = "search x\nnameserver 127.0.0.11\n"


def inspected(status: str = "running", mode: str = "default", networks: Any = ("bridge",), **labels: str) -> Any:
    return {
        "Id": "c1",
        "Name": "/debug",
        "Config": {"Labels": labels},
        "HostConfig": {"NetworkMode": mode},
        "NetworkSettings": {"Networks": {name: {} for name in networks}},
        "State": {
            "Status": status,
            "Pid": 42 if status == "running" else 0,
            "ExitCode": 3,
            "StartedAt": "2027-01-15T07:59:00Z",
            "FinishedAt": "2027-01-15T08:00:00Z",  # that is NOW
        },
    }


@pytest.mark.parametrize(
    ("item", "inspect", "over", "later", "expected", "wired"),
    [
        pytest.param(ASKED, None, None, 0, "missing", False, id="another node's"),
        pytest.param(ASKED, inspected(), None, 0, "found", False, id="found"),
        pytest.param(ASKED, inspected("exited"), None, 0, "unfit", False, id="does not run"),
        pytest.param(ASKED, inspected(mode="host", networks=("host",)), None, 0, "unfit", False, id="the host's"),
        pytest.param(ASKED, inspected(mode="container:x", networks=()), None, 0, "unfit", False, id="another's"),
        pytest.param(ASKED, inspected(networks=("mine",)), None, 0, "unfit", False, id="names of Docker's own"),
        pytest.param(ASKED, inspected(**{LABEL_CLUSTER: "c"}), None, 0, "unfit", False, id="a task"),
        pytest.param(ASKED, inspected(mode="none", networks=("none",)), None, 0, "found", False, id="no network"),
        pytest.param(replace(PINNED, endpoint=None), inspected(), None, 0, "found", False, id="waits for addresses"),
        pytest.param(PINNED, inspected(), None, 0, "attached", True, id="wired"),
        pytest.param(PINNED, inspected(networks=("bridge", "mine")), None, 0, "attached", True, id="joined more since"),
        pytest.param(PINNED, inspected("exited"), None, PATIENCE - 1, "waiting", False, id="may be restarted"),
        pytest.param(PINNED, inspected("exited"), None, PATIENCE, "ended", False, id="ended"),
        pytest.param(PINNED, inspected(), ENDPOINT, 0, "ended", False, id="runs with what it gave up"),
        pytest.param(PINNED, inspected(), OTHER, 0, "attached", True, id="runs with other addresses"),
        pytest.param(replace(PINNED, endpoint=None), inspected(), ENDPOINT, 0, "found", False, id="asks anew"),
        pytest.param(PINNED, None, None, 0, "gone", False, id="removed"),
        pytest.param(replace(PINNED, removing=True), inspected(), None, 0, "gone", False, id="taken off"),
    ],
)
def test_what_is_said_and_done(
    item: AttachmentItem, inspect: Any, over: Endpoint | None, later: float, expected: str, wired: bool
) -> None:
    verdict = judge(item, None if inspect is None else seen_from(inspect, DNS), over, NOW + later)
    assert (verdict.report.state, verdict.wire) == (AttachmentState(expected), wired)
    assert (verdict.again_in is not None) == (expected == "waiting")


def test_one_that_finds_no_names_is_told_how_it_would() -> None:
    said = [
        judge(PINNED, seen_from(inspected(), text), None, NOW).report.message for text in (DNS, "nameserver 8.8.8.8")
    ]
    assert said == ["", "it finds no names: start it with `--dns 127.0.0.11`"]
