"""Managers that are locked when they start, and what opens them: real managers on a real etcd."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster.codec import encode, key_of
from cluster.protocol import LOCKED_FILES
from cluster.unlock import new_unlock_key, unlock_id
from manager import key_file
from manager.etcd import put
from manager.key_file import Keys, Locked
from manager.secrets import FILE
from tests.etcd_server import Servers
from tests.manager.api.test_secrets import VALUE, deploy, everything, sent, shop
from tests.manager.managers import Client, RunningManager, emptied, running_manager, until
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

ONE, TWO = new_unlock_key(), new_unlock_key()


async def with_a_secret(manager: RunningManager) -> str:
    """Deploy a stack with one, and give its digest."""
    assert (await deploy(manager.local(), shop(), "op1", {"pw": sent(VALUE)})).status == 200
    [digest] = manager.core.state.contents["stack.shop"]
    return digest


async def lock(manager: RunningManager, key: str) -> None:
    done = await manager.local().ask("PUT", "/unlock-key", {"key": key})
    assert done.status == 204, done


def on_disk(manager: RunningManager) -> Keys | Locked | None:
    return key_file.read(manager.settings.data / FILE)


def locked_with(manager: RunningManager) -> str:
    found = on_disk(manager)
    return found.unlock if isinstance(found, Locked) else ""


async def refused(client: Client, method: str = "GET", path: str = "/nodes", body: Any = None) -> None:
    answer = await client.ask(method, path, body)
    assert (answer.status, answer.body["kind"]) == (503, "Unavailable"), answer
    assert "is locked" in answer.body["error"] and "stack unlock" in answer.body["hint"]


async def logged(manager: RunningManager, last: tuple[str, int]) -> set[tuple[str, int]]:
    """Give what the audit log has, once it has that."""
    told: set[tuple[str, int]] = set()
    async with asyncio.timeout(PATIENCE):
        while last not in told:
            await asyncio.sleep(0.05)
            told = {(one["does"], one["status"]) for one in await manager.local().get("/audit")}
    return told


async def test_a_manager_that_starts_serves_nobody_before_it_is_given_the_key(servers: Servers, tmp_path: Path) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as first:
        digest = await with_a_secret(first)
        assert await first.local().get("/unlock-key") == {"key": ""}
        plain = on_disk(first)
        assert isinstance(plain, Keys)
        await lock(first, ONE)
        assert locked_with(first) == unlock_id(ONE)
        assert (first.settings.data / FILE).stat().st_mode & 0o777 == 0o600
        assert await first.local().get("/unlock-key") == {"key": ONE}
        assert await first.core.vault.open("stack.shop", digest) == VALUE, "one that runs is not locked by it"
        admin = await first.user("ada", "admin")
        assert (await admin.ask("GET", "/unlock-key")).status == 403, "it is root's"
        token = admin.http.headers["Authorization"].partition(" ")[2]

    async with running_manager(servers, tmp_path) as again:
        assert (await again.anonymous().ask("GET", "/ping")).status == 200
        for client in (again.local(), again.anonymous(), again.bearer(token)):
            await refused(client)
            await refused(client, "GET", "/ca")
            await refused(client, "PUT", "/unlock-key", {"key": TWO})
            await refused(client, "PUT", "/stacks/shop", {})
        await until(lambda: again.core.state.managers)
        [record] = again.core.state.managers.values()
        assert record.locked and not again.core.presence.leading
        assert (await again.bearer(token).ask("POST", "/unlock", {"key": ONE})).status == 403, "by the socket alone"
        assert (await again.local().ask("POST", "/unlock", {"key": "open sesame"})).status == 400
        wrong = await again.local().ask("POST", "/unlock", {"key": TWO})
        assert wrong.status == 403 and unlock_id(ONE) in wrong.body["hint"], wrong
        await refused(again.local())

        assert (await again.local().ask("POST", "/unlock", {"key": ONE})).status == 204
        assert await again.local().get("/nodes") == []
        assert await again.core.vault.open("stack.shop", digest) == VALUE
        await until(lambda: not again.core.state.managers[record.id].locked)
        await until(lambda: again.core.presence.leading)
        assert (await again.local().ask("POST", "/unlock", {"key": TWO})).status == 204, "it is open"
        assert (await again.local().ask("POST", "/secrets-key/rotate")).status == 200
        assert locked_with(again) == unlock_id(ONE), "another key to seal with changes nothing in who opens it"
        assert (await deploy(again.local(), shop(), "op2", {"pw": sent(VALUE)})).body["changed"] is False

        told = await logged(again, ("unlock", 204))
        assert {("unlock-key set", 200), ("unlock", 403), ("unlock", 204)} <= told
        dump = await everything(again)
        secrets = (ONE, TWO, plain.digest, *plain.sealing.values())
        assert not [one for one in secrets if one.encode() in dump or one[-64:].encode() in dump]


async def test_the_others_show_which_manager_is_locked_and_go_on(servers: Servers, tmp_path: Path) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path, "m1") as first:
        digest = await with_a_secret(first)
        await first.join("m2")
        async with running_manager(servers, tmp_path, "m2") as second:
            assert await second.core.vault.open("stack.shop", digest) == VALUE
            await until(lambda: len(first.core.state.managers) == 2)
            await lock(first, ONE)
            await until(lambda: locked_with(second) == unlock_id(ONE))
            await lock(second, TWO)
            await until(lambda: locked_with(first) == unlock_id(TWO))
        await until(lambda: len(first.core.state.managers) == 1)
        async with running_manager(servers, tmp_path, "m2") as second:
            await until(lambda: any(one.locked for one in first.core.state.managers.values()))
            [node] = await first.local().get("/nodes")
            assert "is locked" in node["conditions"]["manager"] and "stack unlock" in node["conditions"]["manager"]
            managers = (await first.local().get("/cluster"))["managers"]
            assert {one["name"]: one["locked"] for one in managers} == {"m1": False, "m2": True}
            assert (await first.local().ask("POST", "/secrets-key/rotate")).status == 200, "it is as one that is off"
            assert (await second.local().ask("POST", "/unlock", {"key": TWO})).status == 204
            await until(lambda: not any(one.locked for one in first.core.state.managers.values()))
            [node] = await first.local().get("/nodes")
            assert node["conditions"] == {}
            assert await second.core.vault.open("stack.shop", digest) == VALUE


async def test_a_manager_that_was_away_takes_the_new_key_and_the_one_before(servers: Servers, tmp_path: Path) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path, "m1") as first:
        digest = await with_a_secret(first)
        await lock(first, ONE)
        async with running_manager(servers, tmp_path, "m2") as second:
            assert await second.core.vault.open("stack.shop", digest) == VALUE
            assert locked_with(second) == unlock_id(ONE), "a new one is locked as the others are"
        for given in (TWO, ONE):
            await until(lambda: len(first.core.state.managers) == 1)
            await lock(first, TWO)
            async with running_manager(servers, tmp_path, "m2") as second:
                await until(lambda: len(second.core.state.managers) == 2)
                assert locked_with(second) == unlock_id(ONE)
                assert (await second.local().ask("POST", "/unlock", {"key": given})).status == 204
                await until(lambda: locked_with(second) == unlock_id(TWO))
                assert await second.core.vault.open("stack.shop", digest) == VALUE
                await lock(first, ONE)
                await until(lambda: locked_with(second) == unlock_id(ONE))

        await until(lambda: len(first.core.state.managers) == 1)
        assert (await first.local().ask("DELETE", "/unlock-key")).status == 204
        assert isinstance(on_disk(first), Keys)
        async with running_manager(servers, tmp_path, "m2") as second:
            await until(second.core.presence.held.is_set)
            assert isinstance(on_disk(second), Keys), "it asked the others, for nothing is to be locked any more"


async def test_one_out_of_a_backup_is_locked_from_its_first_start_on(servers: Servers, tmp_path: Path) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        digest = await with_a_secret(manager)
        await lock(manager, ONE)
        keys = await manager.core.vault.keys()
        file = manager.settings.data / FILE
    file.write_bytes(msgspec.json.encode(keys))
    async with running_manager(servers, tmp_path) as restored:
        assert await restored.core.vault.open("stack.shop", digest) == VALUE
        assert locked_with(restored) == unlock_id(ONE)


async def test_nothing_is_locked_while_an_older_manager_may_run(servers: Servers, tmp_path: Path) -> None:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        core = manager.core
        assert core.state.cluster is not None
        older = replace(core.state.cluster, version=LOCKED_FILES - 1)
        await core.etcd.txn((), [put(key_of(older), encode(older))])
        await until(lambda: core.state.cluster == older)
        answer = await manager.local().ask("PUT", "/unlock-key", {"key": ONE})
        assert answer.status == 409 and "stack upgrade" in answer.body["hint"]
