"""A backup of a running cluster, put into another etcd: the same cluster in another life, and nobody is disturbed."""

from __future__ import annotations

import io
import os
import subprocess
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path

import pytest

from cluster import backup
from cluster.backup import Frame, Manifest
from cluster.codec import PREFIX, key_for
from cluster.errors import Conflict, Failed, UserError
from cluster.model.cluster import Cluster
from cluster.model.container import ContainerSpec
from cluster.model.node import NodeStatus, Session
from cluster.model.service import ServiceSpec
from cluster.protocol import Refused
from manager.authority import RESTORING, found
from manager.backup import ROOT, restore
from manager.etcd import Etcd, put
from manager.invariants import broken
from manager.secrets import FILE
from tests.etcd_server import Servers, running
from tests.manager.api.obedient import obedient
from tests.manager.api.test_secrets import VALUE, deploy, sent, shop
from tests.manager.managers import Joined, RunningManager, emptied, running_manager, until
from tests.manager.sessions.stage import ToyAgent

pytestmark = [pytest.mark.etcd, pytest.mark.filterwarnings("ignore:Sending a large body:ResourceWarning")]


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with running("3.4") as made:
        yield made


@pytest.fixture
async def manager(servers: Servers, tmp_path: Path) -> AsyncIterator[RunningManager]:
    await emptied(servers)
    async with running_manager(servers, tmp_path) as manager:
        yield manager


async def taken(manager: RunningManager) -> list[Frame]:
    async with manager.local().http.get("http://manager/v1/backup") as answer:
        assert answer.status == 200, await answer.text()
        return [backup.decode(one) for one in backup.blocks(io.BytesIO(await answer.read()))]


async def restored(servers: Servers, frames: Iterable[Frame], directory: Path) -> Manifest:
    os.makedirs(directory, exist_ok=True)
    async with Etcd.connect(servers.endpoints) as etcd:
        return await restore(etcd, frames, directory)


async def tasks(manager: RunningManager) -> dict[str, str]:
    return {task["id"]: task["state"] for task in await manager.local().get("/tasks") if task["state"] == "running"}


async def test_a_restored_cluster_goes_on_with_the_tasks_that_run(
    manager: RunningManager, servers: Servers, tmp_path: Path
) -> None:
    joined: Joined = await manager.join("n1")
    async with obedient(manager, joined=joined):
        assert (await deploy(manager.local(), shop(), "op1", {"pw": sent(VALUE)})).status == 200
        async for _ in manager.local().lines("/stacks/shop/progress?revision=1"):
            pass
        made = await manager.local().ask("POST", "/users", {"name": "vic", "role": "viewer"})
        frames = await taken(manager)
        before = await tasks(manager)
    assert len(before) == 1
    token = await manager.local().get("/join-tokens")

    with running("3.4") as other:
        manifest = await restored(other, frames, tmp_path / "m2" / "data")
        assert manifest.cluster == manager.core.authority.cluster and manifest.managers == (manager.base,)
        async with running_manager(other, tmp_path, "m2") as second:
            assert second.core.authority.cluster == manager.core.authority.cluster
            assert second.core.authority.ca == manager.core.authority.ca
            assert await second.local().get("/join-tokens") == token
            life = await second.anonymous().get("/life")
            assert life and not await manager.anonymous().get("/life")

            # people come in as before, and what they did is known
            assert (await second.bearer(made.body["token"]).get("/me"))["name"] == "vic"
            done_before = [(entry["does"], entry["about"]) for entry in await second.local().get("/audit")]
            assert ("deploy", "shop") in done_before and ("user create", "vic") in done_before

            # nobody has been heard of, and nothing is replaced for that
            [node] = await second.local().get("/nodes")
            assert (node["status"], node["id"]) == (NodeStatus.UNKNOWN, joined.id)
            assert "stack join" in node["reason"]
            assert await tasks(second) == before
            assert broken(second.core.state) == []

            # an agent of the life before is told what to do, and nothing else
            client = second.node(joined)
            async with client.http.ws_connect(f"{second.base}/v1/agent/session") as socket:
                agent = ToyAgent(socket, joined.id)
                await agent.hello(cluster=second.core.authority.cluster)
                refused = await agent.hear(Refused)
                assert refused.final and "restored" in refused.reason

            # one that has joined again goes on with what it has
            again = await second.join("n1", joined.key.read_text())
            assert again.id == joined.id
            async with obedient(second, joined=again) as agent:
                await until(lambda: second.core.state.node_states[joined.id].status is NodeStatus.READY)
                assert await tasks(second) == before
                assert await second.core.vault.open(*next(iter(contents_of(second)))) == VALUE
                done = await deploy(second.local(), shop(ServiceSpec("api", ContainerSpec("box:1"))), "op2")
                assert done.status == 200 and done.body["revision"] == 2


def contents_of(manager: RunningManager) -> list[tuple[str, str]]:
    return [(one.owner, one.digest) for held in manager.core.state.contents.values() for one in held.values()]


async def test_a_backup_leaves_out_what_ends_with_this_life(manager: RunningManager) -> None:
    async with obedient(manager):
        frames = await taken(manager)
    keys = {key for frame in frames if isinstance(frame, backup.Entries) for key, _ in frame.items}
    assert key_for(Cluster, "this") in keys and "/stackyard/pki/ca" in keys
    held = {kv.key for kv in (await manager.core.etcd.range(ROOT)).items}
    assert any(key.startswith(key_for(Session, "")) for key in held)
    for gone in (key_for(Session, ""), f"{PREFIX}manager/", "/stackyard/election/"):
        assert not [key for key in keys if key.startswith(gone)]


async def test_a_backup_is_for_root_on_the_managers_host_alone(manager: RunningManager) -> None:
    for client in (await manager.client(), manager.node(await manager.join("n1"))):
        assert (await client.ask("GET", "/backup")).status == 403
    assert (await manager.anonymous().ask("GET", "/backup")).status == 401


async def test_nothing_is_restored_over_a_cluster_or_among_others_keys(
    manager: RunningManager, servers: Servers, tmp_path: Path
) -> None:
    frames = await taken(manager)
    with pytest.raises(Conflict, match="holds a cluster already"):
        await restored(servers, frames, tmp_path / "other")
    with running("3.4") as other:
        async with Etcd.connect(other.endpoints) as etcd:
            await etcd.txn((), (put("/stackyard/state/stack/x", b"{}"),))
        with pytest.raises(Conflict, match="holds 1 keys"):
            await restored(other, frames, tmp_path / "other")


async def test_a_restore_that_broke_off_is_no_cluster_and_can_be_done_again(
    manager: RunningManager, tmp_path: Path
) -> None:
    frames = await taken(manager)
    with running("3.4") as other:

        def cut() -> Iterator[Frame]:
            yield from frames[:-1]
            raise UserError("cut off")

        with pytest.raises(UserError, match="cut off"):
            await restored(other, cut(), tmp_path / "m2" / "data")
        async with Etcd.connect(other.endpoints) as etcd:
            with pytest.raises(Failed, match="restore"):
                await found(etcd, now=1.0)
            await etcd.txn((), (put("/stackyard/state/stack/of-the-first-try", b"{}"),))
        await restored(other, frames, tmp_path / "m2" / "data")
        async with Etcd.connect(other.endpoints) as etcd:
            assert await etcd.get(RESTORING) is None
            assert await etcd.get("/stackyard/state/stack/of-the-first-try") is None
            assert (await found(etcd, now=1.0)).cluster == manager.core.authority.cluster
        assert (tmp_path / "m2" / "data" / FILE).stat().st_mode & 0o777 == 0o600


async def test_a_restore_that_somebody_else_ended_does_not_pass_for_done(
    manager: RunningManager, tmp_path: Path
) -> None:
    frames = await taken(manager)
    with running("3.4") as other:

        def ended() -> Iterator[Frame]:
            yield frames[0]
            command = ("etcdctl", "--endpoints", ",".join(other.endpoints), "del", RESTORING)
            subprocess.run(command, env=os.environ | {"ETCDCTL_API": "3"}, check=True, capture_output=True)
            yield from frames[1:]

        with pytest.raises(Conflict, match="went on meanwhile"):
            await restored(other, ended(), tmp_path / "m2" / "data")
        async with Etcd.connect(other.endpoints) as etcd:
            assert await etcd.get(key_for(Cluster, "this")) is None
