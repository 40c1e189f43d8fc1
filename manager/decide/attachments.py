"""Containers that were started by hand: their addresses, from when one is found until its node has let go of it.

An attachment's addresses are claims of its own. They are freed only on the word of the node's agent, in the very
session in which that was said, that nothing is wired with them; and given again when the container runs again.
"""

from __future__ import annotations

from cluster.codec import key_for, key_of
from cluster.model.attachment import Attachment, AttachmentReport, AttachmentState
from cluster.model.network import Network
from cluster.model.node import Node, NodeState, NodeStatus, Session
from manager.decide.allocator import AddressAllocator, NoRoom
from manager.decide.plan import Draft, Plan
from manager.decide.reaper import ORPHANED_AFTER
from manager.picture import ClusterState

LOOKED_FOR = 60.0
"""Seconds after which a container that no node was said to have is not looked for any more."""

SHOWN = 600.0
"""Seconds for which it is told that an attachment was taken off because its container is gone."""


def decide(state: ClusterState, ident: str, now: float) -> Plan:
    """Say what to do about one attachment."""
    draft = Draft(state)
    attachment = state.attachments.get(ident)
    if attachment is not None and attachment.container:
        _decide(state, draft, attachment, now)
    elif attachment is not None:
        _after(draft, attachment, attachment.created_at + LOOKED_FOR, now, "nobody says where its container is")
    return draft.plan()


def _decide(state: ClusterState, draft: Draft, attachment: Attachment, now: float) -> None:
    report = report_of(state, attachment)
    claims = sorted(state.claims_of.get(attachment.id, ()))
    over = report is not None and report.state.is_over
    if (why := _given_up(state, draft, attachment, now)) or attachment.network not in state.networks:
        _forget(draft, attachment, claims, why or "its network is gone")
    elif attachment.removing and (over or not claims):
        _forget(draft, attachment, claims, "it was taken off")
    elif claims and over:
        guards = [key_of(attachment), key_for(Session, attachment.node)]
        draft.step(f"free what attachment {attachment.id} had", deletes=claims, guards=guards)
    elif report is not None and report.state is AttachmentState.GONE:
        _after(draft, attachment, report.at + SHOWN, now, "its container is gone")
    elif report is not None and report.state is AttachmentState.FOUND and not claims and not attachment.removing:
        network = state.networks[attachment.network]
        try:
            _, made = AddressAllocator(state).endpoint(network, attachment.id, asked=attachment.addresses)
        except NoRoom:
            return  # `problem_of` tells why
        guards = [key_of(attachment), key_of(network)]
        draft.step(f"give attachment {attachment.id} its addresses in {network.name}", puts=made, guards=guards)


def report_of(state: ClusterState, attachment: Attachment) -> AttachmentReport | None:
    """Give what the agent of an attachment's node says of it, None while it says nothing."""
    session = state.sessions.get(attachment.node)
    return None if session is None else session.attachments.get(attachment.id)


def problem_of(state: ClusterState, attachment: Attachment) -> str:
    """Tell why an attachment has no addresses although its container runs, "" where that is not so."""
    report, network = report_of(state, attachment), state.networks.get(attachment.network)
    if report is None or report.state is not AttachmentState.FOUND or network is None:
        return ""
    if state.claims_of.get(attachment.id):
        return ""
    try:
        AddressAllocator(state).endpoint(network, attachment.id, asked=attachment.addresses)
    except NoRoom as problem:
        return f"{problem}; {problem.remedy}"
    return ""


def _given_up(state: ClusterState, draft: Draft, attachment: Attachment, now: float) -> str:
    """Tell why nothing more is expected of an attachment's node, "" while it may be heard of."""
    if attachment.node not in state.nodes:
        return "its node left the cluster"
    verdict = state.node_states.get(attachment.node)
    if verdict is None or verdict.status is not NodeStatus.DOWN or not state.is_lost(attachment.node):
        return ""
    if now >= verdict.since + ORPHANED_AFTER:
        return "its node is down"
    draft.wake(verdict.since + ORPHANED_AFTER)
    return ""


def _after(draft: Draft, attachment: Attachment, at: float, now: float, why: str) -> None:
    if now >= at:
        _forget(draft, attachment, [], why)
    else:
        draft.wake(at)


def _forget(draft: Draft, attachment: Attachment, claims: list[str], why: str) -> None:
    told = [key_for(kind, attachment.node) for kind in (Node, NodeState, Session)] if attachment.node else []
    draft.step(
        f"forget attachment {attachment.id} of {attachment.asked}: {why}",
        deletes=[key_of(attachment), *claims],
        guards=[*told, key_for(Network, attachment.network)],
    )
