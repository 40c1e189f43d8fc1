"""Three members, of which the one in use dies or freezes, while it leads the others."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from dataclasses import dataclass

import pytest

from manager.etcd import Etcd, EtcdUnavailable, UnknownOutcome, absent, put
from manager.etcd import endpoints as endpoints_module
from manager.etcd.endpoints import Endpoints, first_following
from tests.etcd_server import Member, Servers
from tests.patience import PATIENCE

pytestmark = pytest.mark.etcd

TTL = 10


@dataclass
class Writer:
    """Writes one key after the other, each exactly once: what is unknown it settles by reading."""

    etcd: Etcd
    prefix: str
    written: int = 0
    unknown: int = 0

    async def run(self) -> None:
        while True:
            key = f"{self.prefix}{self.written:05}"
            try:
                assert (await self.etcd.txn([absent(key)], [put(key, b"")], timeout=2.0)).succeeded
            except UnknownOutcome:
                self.unknown += 1
                if await self.etcd.get(key) is None:
                    continue
            self.written += 1
            await asyncio.sleep(0.005)

    async def more(self, writes: int) -> None:
        end = self.written + writes
        while self.written < end:  # noqa: ASYNC110 (nothing tells)
            await asyncio.sleep(0.05)


async def leading_member(cluster: Servers) -> Member:
    async with Etcd.connect(cluster.endpoints) as etcd:
        while True:
            leader = [member.endpoint for member in await etcd.status() if member.is_leader]
            if len(leader) == 1:
                return next(member for member in cluster.members if member.client_url == leader[0])
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["dies", "freezes"])
async def test_writes_watch_and_lease_go_on_when_the_member_in_use(cluster: Servers, prefix: str, how: str) -> None:
    used = await leading_member(cluster)
    endpoints = [used.client_url, *(url for url in cluster.endpoints if url != used.client_url)]
    async with Etcd.connect(endpoints) as etcd:
        start = (await etcd.range(prefix)).revision + 1
        writer = Writer(etcd, f"{prefix}key/")
        seen: list[tuple[int, str]] = []
        grown = asyncio.Condition()

        async def watch() -> None:
            async with aclosing(etcd.watch(writer.prefix, start)) as batches:
                async for batch in batches:
                    async with grown:
                        seen.extend((event.revision, event.key) for event in batch.events)
                        grown.notify_all()

        tasks = [asyncio.create_task(writer.run()), asyncio.create_task(watch())]
        async with etcd.lease(TTL) as lease:
            await etcd.txn((), [put(f"{prefix}lease", b"", lease.id)])
            await writer.more(20)
            used.kill() if how == "dies" else used.pause()
            await asyncio.sleep(TTL)
            await writer.more(20)
            tasks[0].cancel()
            await asyncio.wait((tasks[0],))
            # A write that was unknown may have come late: whoever has been written by now must be seen.
            expected = [(item.mod_revision, item.key) for item in (await etcd.range(writer.prefix)).items]
            async with asyncio.timeout(PATIENCE), grown:
                await grown.wait_for(lambda: len(seen) >= len(expected))
            assert not lease.lost.is_set()
            assert await etcd.get(f"{prefix}lease") is not None
        tasks[1].cancel()
        await asyncio.wait((tasks[1],))
    assert seen == sorted(expected)
    assert writer.unknown >= 1 or how == "dies"


async def test_what_only_a_lost_leader_had_is_not_waited_for_nor_is_that_leader_asked(
    cluster: Servers, prefix: str, caplog: pytest.LogCaptureFixture
) -> None:
    leader = await leading_member(cluster)
    own, third = (member for member in cluster.members if member is not leader)
    caplog.set_level(logging.INFO, "manager.etcd.endpoints")
    async with Etcd.connect([own.client_url, leader.client_url, third.client_url]) as etcd:
        await etcd.get(prefix)
        leader.pause()
        with pytest.raises(UnknownOutcome, match="leader changed"):
            await etcd.txn([absent(f"{prefix}key")], [put(f"{prefix}key", b"")], timeout=PATIENCE)
        assert await etcd.get(f"{prefix}key") is None
        assert (await etcd.txn([absent(f"{prefix}key")], [put(f"{prefix}key", b"")])).succeeded
    assert "going on with etcd at" in caplog.text
    assert f"going on with etcd at {leader.client_url}" not in caplog.text


async def test_the_first_of_those_that_follow_a_leader_is_gone_on_with(
    cluster: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoints = Endpoints(cluster.endpoints, None, None, PATIENCE)
    try:
        with monkeypatch.context() as patient:
            patient.setattr(endpoints_module, "HEAD_START", PATIENCE)
            assert await first_following(endpoints.all, PATIENCE) is endpoints.all[0]
        cluster.first.pause()
        assert await first_following(endpoints.all, PATIENCE) in endpoints.all[1:]
    finally:
        await endpoints.close()


async def test_the_first_member_is_used_again_once_it_serves(
    cluster: Servers, prefix: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(endpoints_module, "SOONEST_RETURN", 0.1)
    caplog.set_level(logging.INFO, "manager.etcd.endpoints")
    again = f"going on with etcd at {cluster.first.client_url} again"
    async with Etcd.connect(cluster.endpoints) as etcd:
        cluster.first.kill()
        while (told := [one.getMessage() for one in caplog.records if one.getMessage().startswith("going on")]) == []:
            await etcd.range(prefix)
        assert again not in told
        cluster.restore()
        async with asyncio.timeout(PATIENCE):
            while again not in caplog.messages:  # noqa: ASYNC110 (nothing tells)
                await asyncio.sleep(0.05)
        await etcd.txn((), [put(f"{prefix}key", b"")])


async def test_a_member_that_lost_the_others_takes_no_call_for_done(cluster: Servers, prefix: str) -> None:
    async with Etcd.connect([cluster.first.client_url], patience=0.2) as etcd:
        for member in cluster.members[1:]:
            member.pause()
        with pytest.raises((EtcdUnavailable, UnknownOutcome)):
            await etcd.txn((), [put(f"{prefix}key", b"")], timeout=0.3)
        with pytest.raises(EtcdUnavailable):
            await etcd.get(f"{prefix}key")


async def test_connecting_needs_only_one_member(cluster: Servers, prefix: str) -> None:
    leader = await leading_member(cluster)
    dead = next(member for member in cluster.members if member is not leader)
    dead.kill()
    alive = [member.client_url for member in cluster.members if member is not dead]
    async with Etcd.connect([dead.client_url, *alive]) as etcd:
        assert {member.endpoint for member in await etcd.status()} == set(alive)
        await etcd.txn((), [put(f"{prefix}key", b"")])
