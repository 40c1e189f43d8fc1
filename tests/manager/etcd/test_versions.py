"""Which servers are good enough, and that a client works on whichever event loop."""

from __future__ import annotations

import logging
from contextlib import aclosing

import grpc.aio
import pytest
import uvloop
from aetcd import rpc
from aetcd.rpc.rpc_pb2_grpc import add_MaintenanceServicer_to_server

from manager.etcd import Etcd, MemberStatus, UnsupportedServer, absent, put
from manager.etcd.versions import judge
from tests.etcd_server import Servers


def member(version: str) -> MemberStatus:
    return MemberStatus("http://10.0.0.1:2379", version, member_id=1, is_leader=True, db_size=0, revision=1)


@pytest.mark.parametrize("version", ["3.5.0", "3.5.1", "3.5.2", "3.5.0-rc.1", "3.3.27", "2.3.8", "unknown"])
def test_a_server_that_loses_data_or_is_too_old_is_refused(version: str) -> None:
    with pytest.raises(UnsupportedServer, match=version):
        judge([member("3.5.28"), member(version)])


@pytest.mark.parametrize("version", ["3.4.23", "3.4.41", "3.5.3", "3.5.16", "3.5.27", "3.6.0", "3.6.8"])
def test_a_server_that_lacks_fixes_is_warned_about(version: str, caplog: pytest.LogCaptureFixture) -> None:
    judge([member(version)])
    assert [record.levelno for record in caplog.records] == [logging.WARNING]


@pytest.mark.parametrize("version", ["3.4.42", "3.5.28", "3.6.9", "3.7.0", "4.0.0"])
def test_a_server_with_all_fixes_is_taken_without_a_word(version: str, caplog: pytest.LogCaptureFixture) -> None:
    judge([member(version)])
    assert not caplog.records


class OldServer:
    """Knows its version, and nothing else."""

    def __getattr__(self, name: str) -> None:
        return None

    async def Status(self, request: object, context: object) -> object:
        return rpc.StatusResponse(version="3.5.1", header=rpc.ResponseHeader(member_id=1, revision=1), leader=1)


async def test_connecting_to_a_server_that_loses_data_is_refused() -> None:
    server = grpc.aio.server()
    add_MaintenanceServicer_to_server(OldServer(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        with pytest.raises(UnsupportedServer, match=r"3\.5\.1, whose data can go inconsistent"):
            async with Etcd.connect([f"http://127.0.0.1:{port}"]):
                pass
    finally:
        await server.stop(None)


@pytest.mark.etcd
def test_a_client_works_on_uvloop_too(server: Servers, prefix: str) -> None:
    async def use() -> None:
        async with Etcd.connect(server.endpoints) as etcd, etcd.lease(5) as lease:
            async with etcd.campaign(f"{prefix}leader", b"", lease) as leadership:
                written = await etcd.txn([*leadership.fence, absent(f"{prefix}key")], [put(f"{prefix}key", b"")])
                assert written.succeeded
                async with aclosing(etcd.watch(prefix, written.revision)) as batches:
                    assert (await anext(batches)).revision == written.revision

    uvloop.run(use())
