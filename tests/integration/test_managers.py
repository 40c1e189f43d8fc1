"""The life of a cluster's managers on hosts of one's own, as the README tells it, under requests from first to last:
grown to three, one lost and replaced, the CA's root replaced, a backup, all destroyed, restored elsewhere."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator

import pytest

from tests import own
from tests.integration.conftest import eventually
from tests.integration.test_hosts import AGENT, MANAGER, containers, give_image, statuses, write
from tests.integration.test_nodes import Requests
from tests.machines import Machine, installation, machines

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.engine, pytest.mark.etcd, pytest.mark.timeout(1200)]

PASSPHRASE = {"STACKYARD_BACKUP_PASSPHRASE": "open sesame"}

# `web` is on the two hosts that live through it all, `beside` on one of those that are lost
STACK = """
services:
  web:
    image: box:1
    command: ["/bin/busybox", "sh", "-c", "busybox hostname > /index.html; exec busybox httpd -f -p 80 -h /"]
    healthcheck: {test: ["CMD", "/bin/busybox", "wget", "-q", "-O", "/dev/null", "http://127.0.0.1/"], interval: 500ms}
    ports: ["8080:80"]
    stop_grace_period: 0s
    secrets: [word]
    deploy:
      replicas: %d
      placement: {constraints: ["node.hostname != n1", "node.hostname != n4", "node.hostname != n5"]}
  beside:
    image: box:1
    command: ["/bin/busybox", "sleep", "1000000"]
    stop_grace_period: 0s
    deploy: {placement: {constraints: ["node.hostname != n2", "node.hostname != n3"]}}
secrets: {word: {file: /root/word}}
"""


@pytest.fixture
def hosts() -> Iterator[list[Machine]]:
    with machines(*own.place(own.HOSTS), 5, installation()) as made:
        yield made


def token(manager: Machine, role: str) -> str:
    return manager.run("stack", "token", "show", role).stdout.strip()


def roles(manager: Machine) -> dict[str, str]:
    listed = json.loads(manager.run("stack", "node", "ls", "--format", "json").stdout)
    return {node["name"]: node["role"] for node in listed}


def since(host: Machine) -> set[str]:
    """The containers that run on a host, and since when."""
    return {
        host.run("docker", "inspect", "--format", "{{.Id}} {{.State.StartedAt}}", one).stdout
        for one in containers(host)
    }


def rotate(manager: Machine, *others: Machine) -> None:
    """Replace the CA's root, and have the contexts on these hosts take it over."""
    assert f"root-{others[0].name}: it is of the old root" in manager.run("stack", "ca", "rotate", code=1).stderr
    for host in others:
        host.run("stack", "node", "ls")


def deploy(manager: Machine, replicas: int, *options: str) -> None:
    write(manager, "/root/word", "psst")
    write(manager, "/root/app.yml", STACK % replicas)
    manager.run("stack", "deploy", "-f", "/root/app.yml", "app", *options)


def test_managers_are_grown_lost_replaced_and_destroyed_and_a_backup_goes_on_elsewhere_with_what_runs(
    hosts: list[Machine],
) -> None:
    first, second, third, fourth, fifth = hosts
    for host in hosts:
        give_image(host)
    first.run("stack", "init", "--advertise", first.address)
    for node in (second, third):
        node.run("stack", "join", token(first, "worker"), first.address)
    deploy(first, 2)
    assert [len(containers(host)) for host in (first, second, third)] == [1, 1, 1]
    undisturbed = {host.name: since(host) for host in (second, third)}
    requests = Requests(f"http://{second.address}:8080/")
    with requests.going_on():
        # one becomes three
        for newcomer in (second, third):
            joining = ("stack", "join", token(first, "manager"), first.address, "--manager")
            newcomer.run(*joining)
            assert "nothing was changed" in newcomer.run(*joining).stdout
        assert roles(third) == {"n1": "manager", "n2": "manager", "n3": "manager"}

        # the one that began it all is lost; of the two that are left none may go, and none comes before it is given up
        first.cut_power()
        losing = ("stack", "node", "rm", "--force", "n3")
        eventually(
            lambda: "could not decide" in second.run(*losing, code=None).stderr, "another one leads, and refuses"
        )
        replacing = ("stack", "join", token(second, "manager"), second.address, third.address, "--manager")
        assert "the etcd of n1 does not answer" in fourth.run(*replacing, code=None).stderr
        second.run("stack", "node", "rm", "--force", "n1")
        fourth.run(*replacing)
        kept = json.loads(second.run("stack", "context", "inspect").stdout)[0]["where"]
        assert first.address not in kept, "the dead one is asked still"
        for host in (second, third):  # their contexts forget the dead one
            host.run("stack", "init")
        assert roles(third) == {"n2": "manager", "n3": "manager", "n4": "manager"}
        eventually(lambda: len(containers(fourth)) == 1, "what it ran runs on the one in its place")

        # another root signs; the backup, of the manager that came last, is of that cluster
        rotate(second, third, fourth)
        assert "root-n1" not in second.run("stack", "user", "ls").stdout, "a certificate on the lost host is good still"
        eventually(lambda: "One root is trusted" in second.run("stack", "ca").stdout, "the old root goes")
        assert "wrote" in fourth.run("stack", "backup", "/root/all.backup", environment=PASSPHRASE).stdout
        backup = base64.b64decode(fourth.run("base64", "/root/all.backup").stdout)
        fifth.run("sh", "-c", "cat >/root/all.backup", stdin=backup)
        verified = fifth.run("stack", "restore", "--verify", "/root/all.backup", environment=PASSPHRASE).stdout
        assert "app: revision 1" in verified
        restoring = ("stack", "restore", "/root/all.backup", "--advertise", fifth.address)
        assert "still answers" in fifth.run(*restoring, code=2, environment=PASSPHRASE).stderr

        # all are destroyed, one with its host and two with all that they knew, and nobody has the newest root's key
        rotate(second, third, fourth)
        eventually(lambda: "One root is trusted" in second.run("stack", "ca").stdout, "the old root goes")
        fourth.end()
        for host in (second, third):
            host.run("rm", "-rf", "/var/lib/stackyard/manager")
            host.run("systemctl", "kill", "--signal=KILL", MANAGER)
            host.run("systemctl", "disable", "--now", MANAGER)
        assert {host.name: since(host) for host in (second, third)} == undisturbed

        # restored at another address, what runs is neither disturbed nor replaced, and comes back host by host
        fifth.run(*restoring, environment=PASSPHRASE)
        assert statuses(fifth) == {"n2": "unknown", "n3": "unknown", "n4": "unknown", "n5": "ready"}
        assert not containers(fifth)
        assert roles(fifth) == {"n2": "worker", "n3": "worker", "n4": "worker", "n5": "manager"}
        said = second.run("stack", "join", token(fifth, "worker"), fifth.address).stdout
        assert "n2 goes on as a node of the restored cluster" in said
        third.run("stack", "join", token(fifth, "manager"), fifth.address, "--manager")
        assert statuses(fifth) == {"n2": "ready", "n3": "ready", "n4": "unknown", "n5": "ready"}
        assert {host.name: since(host) for host in (second, third)} == undisturbed
        fifth.run("stack", "node", "rm", "--force", "n4")
        eventually(lambda: len(containers(fifth)) == 1, "what was lost with its host is replaced")

        # managers are three again, one becomes a worker and ends, and a deploy works
        second.run("stack", "join", token(fifth, "manager"), fifth.address, "--manager")
        assert roles(third) == {"n2": "manager", "n3": "manager", "n5": "manager"}
        fifth.run("stack", "node", "demote", "n3")
        ended = ("journalctl", "--unit", MANAGER, "--since", "-1min", "--grep", "taken out of the cluster")
        third.until(lambda: third.run(*ended, code=None).returncode == 0, "its manager does not end")
        deploy(second, 3)
        assert len(since(second) | since(third)) == 3
    assert not requests.failed, requests.failed
    for host in (second, third):
        assert since(host) >= undisturbed[host.name], host.run("journalctl", "-u", AGENT, "--no-pager").stdout
