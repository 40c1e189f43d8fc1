"""Routes about the CA: its roots, and putting another one in their place."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import PlainTextResponse, Response

from cluster.codec import key_of
from cluster.errors import Conflict
from cluster.model.cluster import TrustPhase
from cluster.pki import ca_digest, ends_at
from cluster.views import CaView, RootView
from manager import audit
from manager.api.bodies import answer
from manager.api.core import TRIES, AnyCore, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.authority import CA_KEY, TRUST_KEY, written
from manager.decide import rotation
from manager.etcd import put
from manager.rotation import advance, begin

router = APIRouter(prefix="/v1", tags=["cluster"])


@router.get("/ca", response_class=PlainTextResponse)
async def ca(caller: Permitted, core: AnyCore) -> str:
    """The CA's certificate (PEM). It is worth only what the digest in a join token says of it."""
    return core.authority.ca.certificate


@router.get("/ca/bundle", response_class=PlainTextResponse)
async def bundle(caller: Permitted, core: AnyCore) -> str:
    """All roots of the CA that are trusted (PEM), the one that signs first: for those who trust one of them already."""
    return core.authority.bundle


@router.get("/ca/rotation", response_model=CaView)
async def status(caller: Permitted, core: ReadyCore) -> Response:
    """Tell which roots the CA has, and how far a rotation is."""
    return answer(_view(core))


@router.post("/ca/rotation", response_model=CaView)
async def rotate(caller: Permitted, core: ReadyCore) -> Response:
    """Begin to put a new root in the place of the one that signs; the managers do the rest by themselves."""
    for _ in range(TRIES):
        wanted, record, revision = await begin(core.etcd, core.state, core.authority, core.clock())
        audit.note(before=f"root {ca_digest(wanted.roots[0])}", after=f"root {ca_digest(wanted.roots[1])}")
        guards = {key_of(wanted): core.state.revision_of(TRUST_KEY), CA_KEY: revision}
        if await core.write([wanted], guards, [put(CA_KEY, written(record))]):
            return answer(_view(core))
    raise busy("the CA")


@router.post("/ca/rotation/finish", response_model=CaView)
async def finish(caller: Permitted, core: ReadyCore, force: bool = False) -> Response:
    """Trust the old root no more, although some have certificates of it: with `force`, and those are left out then."""
    for _ in range(TRIES):
        trust, now = core.state.trust, core.clock()
        if trust is None or trust.phase is TrustPhase.SETTLED:
            return answer(_view(core))
        if trust.phase is TrustPhase.SPREADING:
            raise Conflict("the new root does not sign yet", hint="Ask again when `stack ca` says that all renew.")
        missing = list(rotation.missing(core.state, now))
        if missing and (not force or any(one.kind == "manager" for one in missing)):
            names = ", ".join(f"the {one.kind} {one.name} ({one.why})" for one in missing)
            raise Conflict(
                f"some still need the old root: {names}",
                hint="Wait for them, or leave them out with --force: they join again then, or get new certificates.",
            )
        audit.note(after="left out: " + (", ".join(f"{one.kind} {one.name}" for one in missing) or "nobody"))
        wanted = rotation.settled(trust, now)
        if revision := await advance(core.etcd, core.state, wanted, tuple(audit.operations())):
            await core.caught_up(revision)
            return answer(_view(core))
    raise busy("the CA")


def _view(core: Core) -> CaView:
    state, trust = core.state, core.state.trust
    roots = (core.authority.ca.certificate,) if trust is None else trust.roots
    return CaView(
        TrustPhase.SETTLED if trust is None else trust.phase,
        None if trust is None else trust.since,
        tuple(RootView(ca_digest(root), number == 0, ends_at(root)) for number, root in enumerate(roots)),
        len(state.managers),
        len(state.nodes),
        tuple(rotation.missing(state, core.clock())),
    )
