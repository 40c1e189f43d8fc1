"""Routes about the unlock key: root's, on a manager's own host, as all that is as good as the keys themselves."""

from __future__ import annotations

import asyncio
from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.unlock import UnlockKey, parse_unlock_key, unlock_id
from manager import audit
from manager.api.bodies import answer, body, takes
from manager.api.core import AnyCore, Core, ReadyCore
from manager.api.rules import Permitted
from manager.versions import check_locking

router = APIRouter(prefix="/v1", tags=["secrets"])

SERVES_WITHIN = 10.0
"""Seconds that `unlock` waits until the manager serves, so that what is asked next is answered."""


@router.post("/unlock", status_code=204, openapi_extra=takes(UnlockKey))
async def unlock(caller: Permitted, core: AnyCore, request: Annotated[UnlockKey, Depends(body(UnlockKey))]) -> Response:
    """Open this manager, which is locked since it started. One that is not locked stays as it is."""
    await core.vault.unlock(parse_unlock_key(request.key))
    try:
        async with asyncio.timeout(SERVES_WITHIN):
            await core.presence.held.wait()
    except TimeoutError:
        pass  # etcd is out of reach, say; whoever asks next is told
    return Response(status_code=204)


@router.get("/unlock-key", response_model=UnlockKey)
async def unlock_key(caller: Permitted, core: ReadyCore) -> Response:
    """Show the key that unlocks managers, "" where they start unlocked."""
    return answer(UnlockKey(await core.vault.unlock_key()))


@router.put("/unlock-key", status_code=204, openapi_extra=takes(UnlockKey))
async def set_unlock_key(
    caller: Permitted, core: ReadyCore, request: Annotated[UnlockKey, Depends(body(UnlockKey))]
) -> Response:
    """Have every manager that starts from now on be locked until it is given this key."""
    check_locking(core.state)
    return await _relock(core, parse_unlock_key(request.key))


@router.delete("/unlock-key", status_code=204)
async def remove_unlock_key(caller: Permitted, core: ReadyCore) -> Response:
    """Have managers start unlocked."""
    return await _relock(core, "")


async def _relock(core: Core, key: str) -> Response:
    audit.note(after=f"locked with the key {unlock_id(key)}" if key else "not locked")
    await core.vault.relock(key)
    return Response(status_code=204)
