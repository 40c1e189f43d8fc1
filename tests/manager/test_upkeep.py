"""Managers look after a real etcd: one that is full is told of, harms nothing, and has room again by itself."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest

from manager import upkeep
from manager.decide.upkeep import KEEP_HISTORY, MOST_SLOW, Mark
from manager.etcd import Compacted, Etcd, NoSpace, UnknownOutcome, put
from manager.etcd.endpoints import READ_TIMEOUT
from tests.etcd_server import Member, Servers, running
from tests.manager.managers import Answer, RunningManager, running_manager, until
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

QUOTA = ("--quota-backend-bytes=8388608",)
MOST_AFTER = 4 * 2**20
JUNK = "/elsewhere/junk"


@pytest.fixture(autouse=True)
def _often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upkeep, "LOOK_EVERY", 0.2)


async def fill(servers: Servers) -> None:
    """Use the quota up with the history of one key."""
    async with Etcd.connect(servers.endpoints) as etcd:
        with pytest.raises(NoSpace):
            for size in (512 * 1024, 1024, 1):  # until not even a little fits in
                for _ in range(100):
                    with suppress(UnknownOutcome):  # as full as it would be with an answer, or not
                        await etcd.txn((), [put(JUNK, b"x" * size)])


async def told(manager: RunningManager) -> dict[str, str]:
    """What the list of nodes says of etcd, by node."""
    nodes = await manager.local().get("/nodes")
    return {node["name"]: node["conditions"]["etcd"] for node in nodes if "etcd" in node["conditions"]}


async def eventually_told(manager: RunningManager, fits: Callable[[dict[str, str]], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not fits(await told(manager)):  # noqa: ASYNC110 (no event tells of another look)
            await asyncio.sleep(0.1)


async def change(manager: RunningManager) -> Answer:
    return await manager.local().ask("PATCH", "/nodes/m1", {"labels": {"some": "label"}})


async def test_a_full_etcd_is_told_refuses_changes_and_heals_when_all_members_are_there(tmp_path: Path) -> None:
    with running("3.4", 3, arguments=QUOTA) as servers:
        async with running_manager(servers, tmp_path) as manager:
            await until(lambda: manager.core.presence.leading)
            for member in servers.members:
                await manager.join(member.name)
            await eventually_told(manager, lambda said: not said)

            servers.members[2].kill()
            await fill(servers)
            await eventually_told(manager, lambda said: "does not answer" in said.get("m3", ""))
            await eventually_told(manager, lambda said: any("quota" in text for text in said.values()))
            refused = await change(manager)
            assert refused.status == 503 and "quota is used up" in str(refused.body), refused
            assert manager.core.presence.held.is_set() and manager.core.presence.leading
            examined = await manager.local().ask("POST", "/doctor")
            found = {one["about"]: one for one in examined.body["findings"] if one["kind"] == "etcd"}
            assert "does not answer" in found["m3"]["what"] and found["m3"]["remedy"]

            servers.start()
            await eventually_told(manager, lambda said: not said)
            changed = await change(manager)
            assert changed.status == 200, changed
            async with Etcd.connect(servers.endpoints) as etcd:
                looks = await etcd.maintenance.look()
                async with asyncio.timeout(PATIENCE):  # a member may compact its history after it was defragmented
                    while not all(look.size < MOST_AFTER for look in looks):
                        await asyncio.sleep(0.5)
                        looks = await etcd.maintenance.look()
            assert len(looks) == 3, looks


async def test_a_member_that_stops_in_bursts_is_told_to_be_slow_and_nothing_waits_for_it(tmp_path: Path) -> None:
    with running("3.4", 3) as servers:
        async with running_manager(servers, tmp_path) as manager:
            await until(lambda: manager.core.presence.leading)
            for member in servers.members:
                await manager.join(member.name)
            stutters = asyncio.create_task(_stutter(servers.members[2]))
            await eventually_told(manager, lambda said: "slow" in said.get("m3", ""))
            changed = await change(manager)
            assert changed.status == 200, changed
            stutters.cancel()
            await asyncio.gather(stutters, return_exceptions=True)
            servers.start()
            await eventually_told(manager, lambda said: not said)


async def _stutter(member: Member) -> None:
    """Have a member stand still most of the time: of any LOOKS at it more than MOST_SLOW find no answer in time."""
    while True:
        member.pause()
        await asyncio.sleep((MOST_SLOW + 2) * READ_TIMEOUT)
        member.resume()
        await asyncio.sleep(0.3)


async def test_a_manager_that_starts_on_a_full_etcd_makes_room(tmp_path: Path) -> None:
    with running("3.4", arguments=QUOTA) as servers:
        async with running_manager(servers, tmp_path):
            pass
        await fill(servers)
        async with running_manager(servers, tmp_path) as manager:  # which waits until it is present
            await until(lambda: manager.core.presence.leading)
            async with Etcd.connect(servers.endpoints) as etcd:
                [look] = await etcd.maintenance.look()
            assert not look.alarms and look.size < MOST_AFTER


async def test_history_goes_after_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with running("3.4") as servers:
        async with running_manager(servers, tmp_path) as manager, Etcd.connect(servers.endpoints) as etcd:

            async def marked(since: int) -> tuple[Mark, int]:
                async with asyncio.timeout(PATIENCE):
                    while True:  # it is no record, which the picture would tell of
                        stored = await etcd.get(upkeep.MARK)
                        if stored is not None and stored.mod_revision > since:
                            return msgspec.json.decode(stored.value, type=Mark), stored.mod_revision
                        await asyncio.sleep(0.05)

            first, written = await marked(0)
            await etcd.range("/", revision=first.revision - 1)
            later = manager.core.clock() + KEEP_HISTORY
            monkeypatch.setattr(manager.core.upkeep, "_clock", lambda: later)
            second, _ = await marked(written)
            assert second.revision > first.revision
            with pytest.raises(Compacted):
                await etcd.range("/", revision=first.revision - 1)
            await etcd.range("/", revision=first.revision)
