"""What people are told to do about what a node says of a task that failed there."""

from __future__ import annotations

import pytest

from cluster.model.service import RestartPolicy
from cluster.model.task import TaskState, TaskStatus
from manager.decide.failures import change_for
from manager.decide.restarts import RAN_WELL
from tests.manager.decide.builders import Lab, a_service, a_stack
from tests.manager.decide.test_explain import explained

REJECTED, FAILED = TaskState.REJECTED, TaskState.FAILED


@pytest.mark.parametrize(
    ("state", "message", "change"),
    [
        pytest.param(
            REJECTED,
            "image r:5000/web:2 cannot be had: manifest for r:5000/web:2 not found: manifest unknown",
            "correct the image's name and tag",
            id="no such image",
        ),
        pytest.param(
            REJECTED,
            "image web cannot be had: pull access denied for web, repository does not exist or may require login",
            "one in a private registry",
            id="no right to the image",
        ),
        pytest.param(
            REJECTED,
            "image web:1 cannot be had: no matching manifest for linux/arm64/v8 in the manifest list entries",
            "made for the platform of n1",
            id="no image for this machine",
        ),
        pytest.param(
            REJECTED,
            "image web:1 cannot be pulled now: write /var/lib/docker/tmp/GetImageBlob1: no space left on device",
            "free disk space on n1",
            id="no space for the image",
        ),
        pytest.param(
            REJECTED,
            'image web:1 cannot be pulled now: Get "https://r/v2/": dial tcp: connect: connection refused',
            "see that n1 reaches the image's registry",
            id="the registry is out of reach",
        ),
        pytest.param(
            REJECTED,
            "image web:1 is not on this node, and pull_policy forbids to pull it",
            "load the image onto n1",
            id="it may not be pulled",
        ),
        pytest.param(
            REJECTED,
            "error while mounting volume '/var/lib/docker/volumes/app_data/_data': failed to mount local volume: "
            "mount :/export:/var/lib/docker/volumes/app_data/_data, data: addr=10.0.0.9: connection refused",
            "correct the volume's driver_opts",
            id="a volume that cannot be mounted",
        ),
        pytest.param(
            REJECTED,
            'create app_data: error looking up volume plugin nfs: plugin "nfs" not found',
            "install the volume's driver on n1",
            id="a volume driver that is not there",
        ),
        pytest.param(
            REJECTED,
            "bind source path does not exist: /srv/data",
            "make /srv/data on n1, or set bind.create_host_path",
            id="a folder that is not there",
        ),
        pytest.param(
            REJECTED,
            "OCI runtime create failed: runc create failed: unable to start container process: "
            'exec: "/no/such": stat /no/such: no such file or directory: unknown',
            "the image has no such program",
            id="no such program",
        ),
        pytest.param(REJECTED, "the moon is full", "mend what the node says", id="who knows"),
        pytest.param(FAILED, "out of memory: it used more than its limit", "limits.memory", id="out of memory"),
        pytest.param(FAILED, "its health check failed, so it was stopped", "mend the program or the check", id="sick"),
        pytest.param(
            FAILED,
            'its health check failed, so it was stopped: the check said "no volume: out of memory", with exit code 1',
            "mend the program or the check",
            id="sick, whatever the check said",
        ),
        pytest.param(FAILED, "exited with code 3", "`stack logs app_web`", id="it ended"),
    ],
)
def test_each_failure_has_a_change_that_would_mend_it(state: TaskState, message: str, change: str) -> None:
    assert change in change_for(TaskStatus("t", state, 1.0, message), "app_web", "n1")


def test_a_task_that_waits_after_failures_says_what_failed_and_each_node_what_failed_there() -> None:
    lab = Lab("n1", "n2", "n3")
    lab.deploy(a_stack("app", a_service(restart=RestartPolicy(delay=5.0))))
    missing = "image web:2 cannot be had: manifest unknown"
    for _ in range(4):
        lab.run_all()
        lab.wait(20.0)
        lab.report(lab.task(), REJECTED, message=missing)
        lab.settle()
    found = explained(lab)
    change = "correct the image's name and tag, or push it to its registry"
    [trouble] = found.troubles
    assert trouble.why.startswith("waits ") and trouble.why.endswith(missing)
    assert trouble.change == change
    told = {fit.node: [(one.about, one.why, one.change) for one in fit.lately] for fit in found.nodes}
    twice = ("app_web.1", f"rejected: {missing} (2 times)", change)
    once = ("app_web.1", f"rejected: {missing}", change)
    assert sorted(told.values()) == [[once], [once], [twice]], "they were tried in turn"


def test_what_failed_before_a_task_that_runs_well_or_on_a_node_that_is_down_is_over() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service(replicas=2, restart=RestartPolicy(delay=5.0))))
    lab.run_all()

    def told() -> set[str]:
        return {one.about for fit in explained(lab).nodes for one in fit.lately}

    for task in lab.tasks():
        lab.report(task, FAILED, message="exited with code 3")
    lab.settle()
    assert told() == {"app_web.1", "app_web.2"}
    lab.wait(6.0)
    lab.run_all()
    assert told() == {"app_web.1", "app_web.2"}, "they may fall again"
    lab.wait(RAN_WELL)
    assert told() == set()
    for task in lab.tasks():
        lab.report(task, FAILED, message="exited with code 3")
    lab.settle()
    assert told() == {"app_web.1", "app_web.2"}
    lab.fall_silent("n1")
    lab.fall_silent("n2")
    lab.wait(60.0)
    assert told() == set()
