"""The key that secrets are sealed with is replaced: with real managers on a real etcd."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cluster.codec import encode, key_of
from cluster.model.node import Manager
from manager.etcd import delete, put
from manager.key_file import Keys
from manager.secrets import FILE
from tests.etcd_server import Servers
from tests.manager.api.test_secrets import VALUE, deploy, everything, sent, shop
from tests.manager.managers import Client, RunningManager, running_manager, until

pytestmark = pytest.mark.etcd

GONE = Manager("gone", "m9", "https://127.0.0.1:1", 0.0)


# A new connection where a while may have passed: the server ends one that is idle for some seconds, and a POST that
# meets that is not sent again.


def held(manager: RunningManager) -> Keys:
    """What this manager's key file has."""
    return msgspec.json.decode((manager.settings.data / FILE).read_bytes(), type=Keys)


async def test_all_is_sealed_with_the_new_key_and_nothing_changes_for_tasks(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    state = manager.core.state
    assert (await deploy(root, shop(), "op1", {"pw": sent(VALUE)})).status == 200
    assert (await root.ask("PUT", "/secrets/key", {"data": sent(VALUE + b"2")})).status == 200
    before = held(manager)
    [digest] = state.contents["stack.shop"]
    async with running_manager(servers, tmp_path, "m2") as other:
        await until(lambda: len(state.managers) == 2 and len(other.core.state.managers) == 2)
        done = await manager.local().ask("POST", "/secrets-key/rotate")
        assert done.status == 200 and done.body["sealed_again"] == 2, done
        for one in (manager, other):
            keys = held(one)
            assert keys.current == done.body["key"] != before.current and keys.digest == before.digest
            assert (one.settings.data / FILE).stat().st_mode & 0o777 == 0o600
            assert await one.core.vault.open("stack.shop", digest) == VALUE
        assert {one.key for of in state.contents.values() for one in of.values()} == {done.body["key"]}
        again = await deploy(manager.local(), shop(), "op2", {"pw": sent(VALUE)})
        assert again.body["changed"] is False, "a new key makes no new content"

        second = await other.local().ask("POST", "/secrets-key/rotate")
        assert second.body["sealed_again"] == 2
        assert set(held(other).sealing) == {done.body["key"], second.body["key"]}, "the oldest is thrown away"
    dump = await everything(manager)
    for keys in (before, held(manager)):
        assert not any(key.encode() in dump for key in (keys.digest, *keys.sealing.values()))
    log = [entry for entry in await manager.local().get("/audit") if entry["does"] == "secret rotate-key"]
    assert [entry["status"] for entry in log] == [200, 200]


async def test_no_key_is_used_that_a_manager_has_not(manager: RunningManager, root: Client) -> None:
    core = manager.core
    await deploy(root, shop(), "op1", {"pw": sent(VALUE)})
    current = held(manager).current
    await core.etcd.txn((), [put(key_of(GONE), encode(GONE))])
    await until(lambda: GONE.id in core.state.managers)
    refused = await root.ask("POST", "/secrets-key/rotate")
    assert refused.status == 503 and GONE.url in refused.body["error"]
    assert held(manager).current == current
    assert {one.key for one in core.state.contents["stack.shop"].values()} == {current}

    await core.etcd.txn((), [delete(key_of(GONE))])
    await until(lambda: GONE.id not in core.state.managers)
    assert (await manager.local().ask("POST", "/secrets-key/rotate")).body["sealed_again"] == 1


async def test_a_manager_that_was_away_gets_the_new_key_when_it_comes(
    manager: RunningManager, root: Client, servers: Servers, tmp_path: Path
) -> None:
    await deploy(root, shop(), "op1", {"pw": sent(VALUE)})
    [digest] = manager.core.state.contents["stack.shop"]
    async with running_manager(servers, tmp_path, "m2") as other:
        assert await other.core.vault.open("stack.shop", digest) == VALUE
    await until(lambda: len(manager.core.state.managers) == 1)
    assert (await manager.local().ask("POST", "/secrets-key/rotate")).status == 200
    async with running_manager(servers, tmp_path, "m2") as other:
        await until(lambda: other.core.state.managers.keys() >= manager.core.state.managers.keys())
        assert await other.core.vault.open("stack.shop", digest) == VALUE
        assert held(other).current == held(manager).current


async def test_only_admins_may_and_only_managers_are_given_keys(manager: RunningManager, root: Client) -> None:
    operator = await manager.user("ann", "operator")
    assert (await operator.ask("POST", "/secrets-key/rotate")).status == 403
    node = manager.node(await manager.join("n1"))
    for client in (root, operator, node):
        assert (await client.ask("POST", "/sealing-keys/0123abcd")).status == 403
