"""What the leader makes of a node: whether its agent is heard of, its host answers, and its tasks are to be replaced.

Silence is judged by what the leader itself heard, and since when it has been listening: the instants in a session come
from another clock, so they do not count.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field

from cluster.codec import key_for, key_of
from cluster.model.network import INGRESS
from cluster.model.node import Manager, Node, NodeState, NodeStatus, Session, SessionState
from cluster.model.volume import Volume
from manager.decide.allocator import AddressAllocator, NoRoom
from manager.decide.plan import Draft, Plan
from manager.decide.stacks import wants_ingress
from manager.picture import Change, ClusterState

MISSED_BEATS = 3.0
"""Seconds of silence that lie behind it when a manager calls a session silent."""

DOWN_AFTER = 5.0
"""Seconds from the last sign of life to the verdict, when the host does not answer either."""

UNANSWERED = 10.0
"""The same when nobody could say whether the host answers, or the agent's manager died and it has to find another."""

LONGEST_GOODBYE = 3600.0

TOGETHER = 60.0
"""Nodes that fall silent within so many seconds count as fallen silent at once."""

ONE_EACH = 30.0
"""Seconds between replacing the tasks of one node and the next when more than a third fell silent at once."""


@dataclass(slots=True)
class Hearing:
    """What the leader has heard, and when, in cluster time. Kept in memory: it is about this leader, not the cluster.

    `silence` says since when a node's agent has not been heard of, with the epoch of its session.
    """

    listening_since: float
    silence: dict[str, tuple[int, float]] = field(default_factory=dict)

    def note(self, state: ClusterState, nodes: Iterable[str], now: float) -> None:
        """Take in what has become of these nodes' sessions."""
        for node in nodes:
            session = state.sessions.get(node)
            if session is None or state.is_heard(session):
                self.silence.pop(node, None)
            elif self.silence.get(node, (None,))[0] != session.epoch:
                began = now - MISSED_BEATS if session.state is SessionState.SILENT else now
                self.silence[node] = (session.epoch, began)

    def start_again(self, now: float) -> None:
        """Credit a time in which the leader itself was not listening: what was silent counts from now on."""
        self.listening_since = now
        self.silence = {node: (epoch, now) for node, (epoch, _) in self.silence.items()}


def nodes_to_note(state: ClusterState, changes: Iterable[Change]) -> set[str]:
    """Give the nodes whose sessions, or whose sessions' managers, changed."""
    nodes: set[str] = set()
    for change in changes:
        record = change.new or change.old
        if isinstance(record, Session):
            nodes.add(record.node)
        elif isinstance(record, Manager):
            nodes |= state.sessions_at.get(record.id, set())
    return nodes


def decide(state: ClusterState, node_id: str, hearing: Hearing, now: float) -> Plan:
    """Say what to make of one node, and give it its address in the network of published ports."""
    draft = Draft(state)
    node = state.nodes.get(node_id)
    before = state.node_states.get(node_id)
    if node is None:
        _forget(state, draft, node_id)
        return draft.plan()
    state_before = before or NodeState(node_id, NodeStatus.UNKNOWN, now, "its agent has not connected yet")
    after = _judge(state, draft, node, state_before, hearing, now)
    _write(state, draft, node, before, after)
    return draft.plan()


def _forget(state: ClusterState, draft: Draft, node_id: str) -> None:
    """Forget what is known of a node that was taken out of the cluster."""
    records = [state.get(key_for(kind, node_id)) for kind in (NodeState, Session)]
    deletes = [key_of(record) for record in records if record is not None]
    deletes += sorted(state.claims_of.get(node_id, ()))
    deletes += [key_for(Volume, name) for name in sorted(state.volumes_leaving.get(node_id, ()))]
    if deletes:
        draft.step(f"forget node {node_id}", deletes=deletes, guards=[key_for(Node, node_id)])


def _judge(state: ClusterState, draft: Draft, node: Node, before: NodeState, hearing: Hearing, now: float) -> NodeState:
    session = state.sessions.get(node.id)
    if session is None:
        return before
    if state.is_heard(session):
        return _verdict(before, NodeStatus.READY, now, "")
    if before.status is NodeStatus.DOWN or node.id not in hearing.silence:
        return before
    began = hearing.silence[node.id][1]
    if session.back_by is not None and now < (until := min(session.back_by, began + LONGEST_GOODBYE)):
        draft.wake(until)
        return _verdict(before, NodeStatus.AGENT_LOST, now, "its agent is being restarted and means to be back soon")
    if session.reachable:
        return _agent_lost(state, draft, before, hearing, now)
    if session.manager not in state.managers and session.reachable is None:
        reason = "its agent's manager is gone, and the agent came to no other"
    else:
        reason = "neither its agent nor its host answers"
    patience = UNANSWERED if session.reachable is None else DOWN_AFTER
    due = max(began + patience, hearing.listening_since + DOWN_AFTER - MISSED_BEATS)
    if now < due:
        draft.wake(due)
        return before
    return _down(state, before, now, reason)


def _agent_lost(state: ClusterState, draft: Draft, before: NodeState, hearing: Hearing, now: float) -> NodeState:
    assert state.cluster is not None
    after = _verdict(before, NodeStatus.AGENT_LOST, now, "its host answers, its agent does not")
    until = max(after.since, hearing.listening_since) + state.cluster.agent_grace
    if now < until:
        draft.wake(until)
        return after
    return _down(state, before, now, f"its agent has not answered for {state.cluster.agent_grace:.0f} s")


def _verdict(before: NodeState, status: NodeStatus, now: float, reason: str) -> NodeState:
    since = before.since if before.status is status else now
    return dataclasses.replace(before, status=status, since=since, reason=reason, replace_at=0.0)


def _down(state: ClusterState, before: NodeState, now: float, reason: str) -> NodeState:
    """Call a node down; when more than a third fell silent at once, their tasks are replaced one node after another."""
    replace_at = now
    together, lately = 1, [0.0]
    for ident in state.nodes:
        other = state.node_states.get(ident)
        if ident == before.node or other is None or state.is_heard(state.sessions.get(ident)):
            continue
        is_down = other.status is NodeStatus.DOWN
        if is_down:
            lately.append(other.replace_at)
        if ident in state.sessions and (not is_down or now - other.since < TOGETHER):
            together += 1
    if len(state.nodes) >= 3 and together * 3 > len(state.nodes):
        replace_at = max(now, max(lately) + ONE_EACH)
        reason += (
            f"; {together} of {len(state.nodes)} nodes fell silent at once, "
            f"so their tasks are replaced node by node, {ONE_EACH:.0f} s apart"
        )
    after = _verdict(before, NodeStatus.DOWN, now, reason)
    return dataclasses.replace(after, replace_at=replace_at)


def _write(state: ClusterState, draft: Draft, node: Node, before: NodeState | None, after: NodeState) -> None:
    """Write the verdict and the node's endpoint in the network of published ports, as they changed."""
    claims: list[str] = []
    puts = []
    network = state.networks.get(INGRESS)
    wanted = network is not None and wants_ingress(state)
    if network is not None and wanted and after.ingress is None:
        try:
            endpoint, made = AddressAllocator(state).endpoint(network, node.id)
        except NoRoom as problem:
            after = dataclasses.replace(after, reason=after.reason or str(problem))
        else:
            puts = list(made)
            after = dataclasses.replace(after, ingress=endpoint)
    elif not wanted and after.ingress is not None:
        claims = sorted(state.claims_of.get(node.id, ()))
        after = dataclasses.replace(after, ingress=None)
    if after == before:
        return
    why = f"node {node.name} is {after.status} {after.reason}".rstrip()
    draft.step(why, puts=[after, *puts], deletes=claims, guards=[key_of(node), key_for(Session, node.id)])
