"""Routes about the cluster as a whole, for anyone: is it there, which one is it."""

from __future__ import annotations

from importlib.metadata import version

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from cluster.protocol import VERSION
from cluster.views import API_VERSION, ClusterView, VersionView
from manager.api import show
from manager.api.bodies import answer
from manager.api.core import AnyCore, ReadyCore
from manager.api.rules import Permitted
from manager.presence import ELECTION

router = APIRouter(prefix="/v1", tags=["cluster"])


@router.get("/ping", response_class=PlainTextResponse)
async def ping(caller: Permitted) -> str:
    """Tell that the manager runs, whatever else does."""
    return "pong"


@router.get("/ca", response_class=PlainTextResponse)
async def ca(caller: Permitted, core: AnyCore) -> str:
    """The CA's certificate (PEM). It is worth only what the digest in a join token says of it."""
    return core.authority.ca.certificate


@router.get("/life", response_class=PlainTextResponse)
async def life(caller: Permitted, core: AnyCore) -> str:
    """Which life the cluster is in: another one begins whenever it is restored from a backup."""
    return core.authority.life


@router.get("/version", response_model=VersionView)
async def version_of_manager(caller: Permitted) -> Response:
    return answer(VersionView(version("stackyard"), API_VERSION, VERSION))


@router.get("/cluster", response_model=ClusterView)
async def cluster(caller: Permitted, core: ReadyCore) -> Response:
    leader = await core.etcd.leader(ELECTION)
    return answer(show.cluster(core.state, "" if leader is None else leader.decode()))
