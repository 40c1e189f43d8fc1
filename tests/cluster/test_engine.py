"""What is said of engines that cannot run our containers."""

from __future__ import annotations

from cluster.engine import refusals, troubles


def test_engines_that_cannot_take_wired_namespaces_are_named_with_the_remedy() -> None:
    info = {
        "SecurityOptions": ["name=seccomp,profile=default", "name=userns", "name=rootless"],
        "DockerRootDir": "/var/snap/docker/common/var-lib-docker",
        "OperatingSystem": "Docker Desktop",
        "Runtimes": {"runc": {}},
    }
    for_good = {"engine-userns", "engine-rootless", "engine-snap", "engine-desktop"}
    assert set(refusals(info)) == for_good
    assert set(troubles(info)) == for_good | {"runtime"}
    assert troubles({"SecurityOptions": ["name=seccomp"], "Runtimes": {"stackyard": {}}}) == {}
