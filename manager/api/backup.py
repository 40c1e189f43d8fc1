"""The route that gives a backup: to root on this manager's host alone, for it holds the keys to everything."""

from __future__ import annotations

import time
from importlib.metadata import version

import msgspec
from fastapi import APIRouter
from starlette.responses import StreamingResponse

from manager import backup
from manager.api.core import ReadyCore
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1", tags=["cluster"])


@router.get("/backup", response_class=StreamingResponse)
async def take(caller: Permitted, core: ReadyCore) -> StreamingResponse:
    """All that a new cluster needs to go on as this one, in the clear: blocks of cluster/backup.py, the last an End."""

    async def keys() -> bytes:
        return msgspec.json.encode(await core.vault.keys())

    await keys()  # while there is an answer to give that there are none
    managers = [manager.url for manager in core.state.managers.values()]
    blocks = backup.frames(core.etcd, keys, managers, version("stackyard"), time.time())
    return StreamingResponse(blocks, media_type="application/octet-stream")
