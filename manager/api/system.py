"""Routes about the cluster as a whole, for anyone: is it there, which one is it."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from cluster.protocol import VERSION
from cluster.views import API_VERSION, ClusterView, EtcdView, VersionView
from manager.api import show
from manager.api.bodies import answer
from manager.api.core import AnyCore, ReadyCore
from manager.api.rules import Permitted
from manager.etcd import EtcdUnavailable
from manager.presence import ELECTION

router = APIRouter(prefix="/v1", tags=["cluster"])

_ETCD_PATIENCE = 5.0
"""Seconds in which members of etcd say their versions; one that is off is waited for two."""


@router.get("/ping", response_class=PlainTextResponse)
async def ping(caller: Permitted) -> str:
    """Tell that the manager runs, whatever else does."""
    return "pong"


@router.get("/life", response_class=PlainTextResponse)
async def life(caller: Permitted, core: AnyCore) -> str:
    """Which life the cluster is in: another one begins whenever it is restored from a backup."""
    return core.authority.life


@router.get("/version", response_model=VersionView)
async def version_of_manager(caller: Permitted, core: AnyCore) -> Response:
    """Tell what this manager is, also while etcd is out of reach; `GET /v1/upgrade` tells of all managers."""
    try:
        async with asyncio.timeout(_ETCD_PATIENCE):
            members = await core.etcd.status()
    except (TimeoutError, EtcdUnavailable):
        members = ()
    etcd = tuple(
        EtcdView(member.endpoint, member.version) for member in sorted(members, key=lambda member: member.endpoint)
    )
    return answer(VersionView(version("stackyard"), API_VERSION, VERSION, etcd))


@router.get("/cluster", response_model=ClusterView)
async def cluster(caller: Permitted, core: ReadyCore) -> Response:
    """Show the cluster: its managers, and how much of everything there is."""
    leader = await core.etcd.leader(ELECTION)
    return answer(show.cluster(core.state, "" if leader is None else leader.decode()))
