"""Managers on hosts of one's own: a node becomes one, all are lost, and a backup goes on at another address."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from tests import own
from tests.integration.conftest import STACKS, eventually
from tests.integration.test_hosts import containers, give_image, statuses, write
from tests.machines import Machine, installation, machines

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.engine, pytest.mark.etcd, pytest.mark.timeout(1200)]

PASSPHRASE = {"STACKYARD_BACKUP_PASSPHRASE": "open sesame"}


@pytest.fixture
def hosts() -> Iterator[list[Machine]]:
    with machines(*own.place(own.HOSTS), 3, installation()) as made:
        yield made


def test_a_node_becomes_a_manager_and_a_backup_goes_on_elsewhere_with_what_runs(hosts: list[Machine]) -> None:
    first, second, third = hosts
    first.run("stack", "init", "--advertise", first.address)
    second.run("stack", "join", first.run("stack", "token", "show").stdout.strip(), first.address)
    for host in hosts:
        give_image(host)
    write(first, "/root/hello.yml", (STACKS / "hello.yml").read_text())
    first.run("stack", "deploy", "-f", "/root/hello.yml", "hello")
    running = containers(second)
    assert running

    # a node becomes a manager, and nothing that runs there is disturbed
    token = first.run("stack", "token", "show", "manager").stdout.strip()
    joining = ("stack", "join", token, first.address, "--manager")
    second.run(*joining)
    assert "nothing was changed" in second.run(*joining).stdout
    listed = json.loads(second.run("stack", "node", "ls", "--format", "json").stdout)
    assert {node["name"]: node["role"] for node in listed} == {"n1": "manager", "n2": "manager"}
    assert containers(second) == running
    backup = second.run("stack", "backup", "/root/all.backup", environment=PASSPHRASE)
    assert "wrote" in backup.stdout
    data = base64.b64decode(second.run("base64", "/root/all.backup").stdout)

    # the first host is lost; of two managers one cannot decide anything, but what runs runs on
    first.cut_power()
    third.run("sh", "-c", "cat >/root/all.backup", stdin=data)
    assert (
        "hello: revision 1"
        in third.run("stack", "restore", "--verify", "/root/all.backup", environment=PASSPHRASE).stdout
    )
    restoring = ("stack", "restore", "/root/all.backup", "--advertise", third.address)
    assert "still answers" in third.run(*restoring, code=2, environment=PASSPHRASE).stderr
    third.run(*restoring, "--force", environment=PASSPHRASE)
    assert statuses(third) == {"n1": "unknown", "n2": "unknown", "n3": "ready"}
    assert containers(second) == running and not containers(third)

    second.run("stack", "join", third.run("stack", "token", "show").stdout.strip(), third.address)
    eventually(lambda: statuses(third)["n2"] == "ready", "the node comes back")
    assert containers(second) == running

    # what the lost host ran comes back when that is given up
    third.run("stack", "node", "rm", "--force", "n1")
    eventually(lambda: len(containers(second)) + len(containers(third)) == 6, "what was lost is replaced")
    assert containers(second) >= running
