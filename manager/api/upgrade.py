"""Routes about replacing the programs of a running cluster by those of another release."""

from __future__ import annotations

from dataclasses import replace

from fastapi import APIRouter
from starlette.responses import Response

from cluster.codec import key_for, key_of
from cluster.errors import Conflict
from cluster.model.node import Manager
from cluster.views import UpgradeView
from manager import audit
from manager.api.bodies import answer
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.versions import upgrade

router = APIRouter(prefix="/v1", tags=["cluster"])


@router.get("/upgrade", response_model=UpgradeView)
async def status(caller: Permitted, core: ReadyCore) -> Response:
    """Tell who runs which release, and what keeps the upgrade from its end."""
    return answer(upgrade(core.state))


@router.post("/upgrade/finish", response_model=UpgradeView)
async def finish(caller: Permitted, core: ReadyCore) -> Response:
    """Let the cluster write what only the new release knows; there is no way back then."""
    for _ in range(TRIES):
        if await _finish(core):
            return answer(upgrade(core.state))
    raise busy("the cluster's record")


async def _finish(core: Core) -> bool:
    found, cluster = upgrade(core.state), core.state.cluster
    assert cluster is not None
    if found.newest == found.version:
        return True
    if found.behind:
        names = ", ".join(f"the {one.kind} {one.name} ({one.behind})" for one in found.behind)
        raise Conflict(
            f"the upgrade is not at its end: {names}",
            hint="Upgrade or start them, or take nodes out that will not come back: `stack node rm --force NODE`.",
        )
    audit.note(before=f"version {found.version}", after=f"version {found.newest}")
    keys = [key_of(cluster), *(key_for(Manager, ident) for ident in core.state.managers)]
    guards = {key: core.state.revision_of(key) for key in keys}
    return await core.write([replace(cluster, version=found.newest)], guards)
