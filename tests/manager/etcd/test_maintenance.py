"""How members fare, and making room in them, on real etcd with a small quota."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from manager.etcd import Etcd, NoSpace, delete, put
from tests.etcd_server import Servers, running

pytestmark = pytest.mark.etcd

QUOTA = 8 * 2**20


@pytest.fixture
def small(version: str) -> Iterator[Servers]:
    with running(version, arguments=[f"--quota-backend-bytes={QUOTA}"]) as servers:
        yield servers


async def fill(etcd: Etcd, key: str) -> None:
    """Use the quota up with the history of one key."""
    with pytest.raises(NoSpace, match="quota is used up"):
        for _ in range(100):
            await etcd.txn((), [put(key, b"x" * 512 * 1024)])


async def test_a_full_member_says_so_takes_deletions_and_has_room_again_once_it_was_made(
    small: Servers, prefix: str
) -> None:
    async with Etcd.connect(small.endpoints) as etcd:
        [empty] = await etcd.maintenance.look()
        assert (empty.endpoint, empty.leads, empty.serves, empty.alarms) == (small.first.client_url, True, True, {})
        await fill(etcd, prefix)
        with pytest.raises(NoSpace):
            async with etcd.lease(5):
                pass
        [full] = await etcd.maintenance.look()
        assert full.alarms == {full.member: "NOSPACE"} and full.size > QUOTA / 2
        await etcd.txn((), [delete(prefix)])

        await etcd.compact((await etcd.maintenance.look())[0].revision, physical=True)
        await etcd.maintenance.defragment(full.endpoint)
        [smaller] = await etcd.maintenance.look()
        assert smaller.size < QUOTA / 2 and smaller.alarms, "it has to be told"
        await etcd.maintenance.disarm(full.member)
        await etcd.txn((), [put(prefix, b"x")])
        [well] = await etcd.maintenance.look()
        assert not well.alarms


async def test_members_that_are_away_or_frozen_are_missing(cluster: Servers) -> None:
    async with Etcd.connect(cluster.endpoints) as etcd:
        looks = await etcd.maintenance.look()
        assert [look.leads for look in looks].count(True) == 1
        assert {look.member for look in looks} == {member.id for member in await etcd.members.all()}
        cluster.first.kill()
        cluster.members[1].pause()
        [left] = await etcd.maintenance.look()
        assert left.endpoint == cluster.members[2].client_url
        assert left.serves, "of its own data"
