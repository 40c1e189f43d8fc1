"""How the CA is rotated: what is trusted next, and who still stands in the way of that.

A new root is first made known beside the old one, to every manager and to every agent that is connected; then it signs,
and everyone gets a certificate of it; when all have one, the old root is trusted no more. Each step is taken by one
write, and follows from what is stored alone: a new leader goes on where the one before was.

Agents that are away need not be waited for before the new root signs: managers show it signed by the old one then. But
they have certificates of the old root, so it stays until they have come, or somebody says that it need not.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.model.cluster import Trust, TrustPhase
from cluster.model.node import Session, SessionState
from cluster.pki import ca_digest
from cluster.protocol import ROTATES
from cluster.views import MissingView
from manager.picture import ClusterState

SPREAD_WITHIN = 60.0
"""Seconds after which agents that are connected, but have not said that they know the new root, are not waited for."""


_UNDER_WAY = "it has no certificate of the new root yet"


def begun(known: Trust | None, signing: str, coming: str, cross: str, now: float) -> Trust:
    """Trust a new root (PEM) beside the one that signs; `cross` is the new one signed by that."""
    return Trust(
        generation=1 if known is None else known.generation + 1,
        phase=TrustPhase.SPREADING,
        since=now,
        roots=(signing, coming),
        cross=cross,
        earlier=() if known is None else known.earlier,
    )


def step(state: ClusterState, now: float) -> Trust | None:
    """Give what is to be trusted from now on; None while nothing changes."""
    trust = state.trust
    if trust is None or trust.phase is TrustPhase.SETTLED:
        return None
    if any(missing(state, now)):
        return None
    return renewing(trust, now) if trust.phase is TrustPhase.SPREADING else settled(trust, now)


def renewing(trust: Trust, now: float) -> Trust:
    """Have the new root sign; the old one is trusted still."""
    old, new = trust.roots
    return replace(
        trust, generation=trust.generation + 1, phase=TrustPhase.RENEWING, since=now, roots=(new, old),
        earlier=(*trust.earlier, ca_digest(old)),
    )  # fmt: skip


def settled(trust: Trust, now: float) -> Trust:
    """Trust the new root alone."""
    return replace(
        trust, generation=trust.generation + 1, phase=TrustPhase.SETTLED, since=now, roots=trust.roots[:1]
    )  # fmt: skip


def missing(state: ClusterState, now: float) -> Iterator[MissingView]:
    """Tell who is to come along before the next step, and why that one has not."""
    trust = state.trust
    if trust is None or trust.phase is TrustPhase.SETTLED:
        return
    for manager in sorted(state.managers.values(), key=lambda one: one.name):
        if manager.trust < trust.generation:
            yield MissingView("manager", manager.name, "it does not go by the new roots yet")
    if trust.phase is TrustPhase.SPREADING:
        yield from _unaware(state, trust, now)
    else:
        yield from _unrenewed(state, trust)
        yield from _people(state, trust, now)


def _unaware(state: ClusterState, trust: Trust, now: float) -> Iterator[MissingView]:
    if now >= trust.since + SPREAD_WITHIN:
        return
    digests = set(map(ca_digest, trust.roots))
    for node in sorted(state.nodes.values(), key=lambda one: one.name):
        session = state.sessions.get(node.id)
        if session is not None and _takes_part(session) and not digests <= set(session.roots):
            yield MissingView("node", node.name, "it has not taken the new root in yet")


def _takes_part(session: Session) -> bool:
    return session.state is SessionState.OPEN and session.version >= ROTATES


def _unrenewed(state: ClusterState, trust: Trust) -> Iterator[MissingView]:
    digest = ca_digest(trust.roots[0])
    for node in sorted(state.nodes.values(), key=lambda one: one.name):
        session = state.sessions.get(node.id)
        if session is None:
            yield MissingView("node", node.name, "it has never been connected", absent=True)
        elif session.signer != digest and session.signer not in _left_out(trust):
            if session.state is not SessionState.OPEN:
                why = "it is not connected"
            elif session.version < ROTATES:
                why = "its agent is of a release that cannot take another root"
            else:
                why = _UNDER_WAY
            yield MissingView("node", node.name, why, absent=why is not _UNDER_WAY)


def _people(state: ClusterState, trust: Trust, now: float) -> Iterator[MissingView]:
    digest = ca_digest(trust.roots[0])
    for user in sorted(state.users.values(), key=lambda one: one.name):
        for held in user.credentials:
            signer = held.signer or next(iter(trust.earlier), "")
            if held.kind == "certificate" and held.is_good(now) and signer != digest and signer not in _left_out(trust):
                yield MissingView("certificate", f"{held.id} of {user.name}", "it is of the old root", absent=True)


def _left_out(trust: Trust) -> set[str]:
    """The roots that were trusted no more before this rotation began: waiting longer helps none of theirs."""
    return set(trust.earlier).difference(map(ca_digest, trust.roots))
