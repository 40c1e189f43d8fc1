"""An upgrade with a real manager: what is refused before its end, who is waited for, and its end."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.codec import encode, key_of
from cluster.model.container import ContainerSpec
from cluster.model.network import NetworkSpec
from cluster.model.node import Manager
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from cluster.protocol import VERSION
from manager.etcd import delete, put
from tests.manager.managers import Client, RunningManager, until

pytestmark = pytest.mark.etcd

OLDER = Manager("older", "m9", "https://127.0.0.1:1", 0.0)
"""As a release from before versions were told writes it."""


async def begin(manager: RunningManager) -> None:
    """Have the cluster be as the older release left it, with a manager of that release."""
    core = manager.core
    assert core.state.cluster is not None
    was = replace(core.state.cluster, version=VERSION - 1)
    await core.etcd.txn((), [put(key_of(was), encode(was)), put(key_of(OLDER), encode(OLDER))])
    await until(lambda: core.state.cluster == was and OLDER.id in core.state.managers)


async def deploy(client: Client, operation: str, **network: bool) -> int:
    service = ServiceSpec("web", ContainerSpec("app:1"))
    spec = StackSpec("shop", {"web": service}, networks={"inner": NetworkSpec("inner", "shop_inner", **network)})  # type: ignore[arg-type]
    return (await client.ask("PUT", "/stacks/shop", {"spec": spec, "operation": operation})).status


async def test_a_new_cluster_is_of_the_newest_version(manager: RunningManager, root: Client) -> None:
    await until(lambda: manager.core.state.managers)
    found = await root.get("/upgrade")
    assert (found["version"], found["newest"]) == (VERSION, VERSION)
    assert [(one["name"], one["version"], one["behind"]) for one in found["programs"]] == [("m1", VERSION, "")]
    assert (await root.ask("POST", "/upgrade/finish")).status == 200


async def test_what_an_older_manager_does_not_know_waits_for_the_end(manager: RunningManager, root: Client) -> None:
    await begin(manager)
    user = {"name": "ann", "role": "viewer"}
    refused = await root.ask("POST", "/users", user)
    assert refused.status == 409 and "stack upgrade" in refused.body["hint"]
    assert await deploy(root, "o1", encrypted=True) == 409
    assert await deploy(root, "o2") == 200

    early = await root.ask("POST", "/upgrade/finish")
    assert early.status == 409 and "the manager m9" in early.body["error"]
    assert [one["name"] for one in (await root.get("/upgrade"))["programs"] if one["behind"]] == ["m9"]

    await manager.core.etcd.txn((), [delete(key_of(OLDER))])
    await until(lambda: OLDER.id not in manager.core.state.managers)
    assert (await root.ask("POST", "/upgrade/finish")).body["version"] == VERSION
    assert (await root.ask("POST", "/users", user)).status == 200
    assert await deploy(root, "o3", encrypted=True) == 200
    log = await root.get("/audit")
    done = [entry for entry in log if entry["does"] == "upgrade finish" and entry["status"] == 200]
    assert [(entry["before"], entry["after"]) for entry in done] == [(f"version {VERSION - 1}", f"version {VERSION}")]


async def test_only_admins_finish_an_upgrade(manager: RunningManager) -> None:
    operator = await manager.user("ann", "operator")
    assert (await operator.ask("POST", "/upgrade/finish")).status == 403
    assert (await operator.get("/upgrade"))["version"] == VERSION
