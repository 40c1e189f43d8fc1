"""What agents are to be given, kept up to date change by change, so that the cost follows what changed.

The endpoints of a network are one *topic*, the published ports another: each is worked out once, however many agents
read it, written as it goes over the wire, and remembers what changed since when. A *reader* is one session's place in
them; it reads whenever it can send, and gets the newest of everything and nothing twice. What it has read adds up to
`assignments.assignments`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import NamedTuple

from cluster.assignments import Item
from cluster.model.attachment import Attachment
from cluster.model.cluster import Claim
from cluster.model.network import INGRESS, Network
from cluster.model.node import Node, NodeState, NodeStatus, Session
from cluster.model.service import ServiceState
from cluster.model.stack import Stack
from cluster.model.task import Task, TaskStatus
from cluster.model.volume import Volume
from cluster.protocol import Part, part
from cluster.topics import PORTS, digest, mark
from manager.picture import Change, ClusterState
from manager.sessions.assignments import Made, memberships, own, peer, ports, shared, vip
from manager.turns import Turns

PACE = 0.03
"""Seconds between two sets of one session, at least: what comes meanwhile goes together."""

MOST_SETS = 1000.0
"""Sets a second that all sessions together send when everything changes for everybody."""

EACH_ROUND = 12
"""Sessions that send or record, mostly for a millisecond each, in one round of the event loop: all at once, they would
hold it for seconds. Not fewer, as rounds are long on a host that is short of CPU."""

HEARD_EACH_ROUND = 50
"""Messages of agents that are taken in in one round, and ends of their sessions: after a time in which this program had
no CPU, all have spoken, and after one without a network all have gone."""

ROUND = 0.003
"""Seconds of work after which the rest of those wait for the next round."""

SPARE = 100
"""Marks of changes that a topic keeps beyond two for each of its items."""


class Topic:
    """Items by ident, with the order in which they last changed. `None` marks one that is gone."""

    def __init__(self) -> None:
        self.parts: dict[str, Part] = {}
        self.version = 0
        self.forgotten = 0
        self._changed: dict[str, int] = {}
        self._marks = 0

    def put(self, ident: str, item: Item | None) -> bool:
        """Set or, with None, drop an item; tells whether that changed anything."""
        written = None if item is None else part(item)
        before = self.parts.get(ident)
        if before == written:
            return False
        if before is not None:
            self._marks -= mark(before.text)
        if written is None:
            del self.parts[ident]
        else:
            self.parts[ident] = written
            self._marks += mark(written.text)
        self.version += 1
        self._changed.pop(ident, None)
        self._changed[ident] = self.version
        if len(self._changed) > 2 * len(self.parts) + SPARE:
            self._forget()
        return True

    def since(self, version: int) -> Iterator[str]:
        """Name the items that changed, or went, after a version that is not below `forgotten`."""
        for ident, at in reversed(self._changed.items()):
            if at <= version:
                return
            yield ident

    @property
    def digest(self) -> str:
        """What an agent says in Hello that has just these items."""
        return digest(self._marks)

    def _forget(self) -> None:
        """Drop the older half of the marks; a reader that is so far behind starts over."""
        for ident in tuple(self._changed)[: len(self._changed) // 2]:
            self.forgotten = self._changed.pop(ident)


class Board:
    """All topics. Fed with what the picture tells has changed; wakes the readers that are concerned."""

    def __init__(self, state: ClusterState) -> None:
        self.state = state
        self._topics: dict[str, Topic] = {PORTS: Topic()}
        self.readers = 0
        self.turns = Turns(EACH_ROUND, ROUND)
        self.hearing = Turns(HEARD_EACH_ROUND, ROUND)
        self.made: Made = {}
        self._reading: dict[str, set[Reader]] = {}
        self._published: dict[str, set[str]] = {}

    def topic(self, name: str) -> Topic:
        """Give a topic; a network's is made when the first agent needs it."""
        if name not in self._topics:
            topic = self._topics[name] = Topic()
            for item in shared(self.state, name):
                topic.put(item.ident, item)
        return self._topics[name]

    def has(self, name: str) -> bool:
        """Tell whether a topic is made already."""
        return name in self._topics

    def read(self, node: str, has: Mapping[str, str] = MappingProxyType({})) -> Reader:
        """Begin to read for a new session of a node, whose agent has what these digests of topics tell."""
        return Reader(self, node, has)

    def told(self, network: str) -> set[str]:
        """Name the nodes in session here that are told of a network."""
        return {reader.node for reader in self._reading.get(network, ())}

    def changed(self, changes: Iterable[Change]) -> None:
        """Take up what has changed in the picture, which shows it already."""
        endpoints: set[tuple[str, str]] = set()
        nodes: set[str] = set()
        stacks: set[str] = set()
        vips: set[tuple[str, str]] = set()
        for change in changes:
            if not self._is_told(change):
                continue
            for record in (change.old, change.new):
                self._mark(record, endpoints, nodes, stacks)
                vips.update(self._virtual(record))
        for network, owner in endpoints:
            if network in self._topics:
                ident = f"peer/{network}/{owner}"
                self._put(network, ident, peer(self.state, network, owner))
        for network, uid in vips:
            if network in self._topics:
                self._put(network, f"vip/{network}/{uid}", vip(self.state, network, uid))
        for stack in stacks:
            self._publish(stack)
        self._forget_made()
        for node in nodes:
            for reader in self._reading.get(_own(node), ()):
                reader.stale = True
                reader.news.set()

    def _is_told(self, change: Change) -> bool:
        """Tell whether agents may be told anything of a change: of most that become of nodes they are not.

        Whether a session is open makes no difference to them unless its node is called down.
        """
        match change:
            case Change(old=Session() as before, new=Session() as after):
                verdict = self.state.node_states.get(after.node)
                if verdict is not None and verdict.status is NodeStatus.DOWN:
                    return True
                told = (before.version, before.description, before.attachments)
                return told != (after.version, after.description, after.attachments)
            case Change(old=NodeState() as before, new=NodeState() as after):
                was_down, is_down = (one.status is NodeStatus.DOWN for one in (before, after))
                return was_down != is_down or before.ingress != after.ingress
            case Change(old=Node() as before, new=Node() as after):
                return before.name != after.name
            case _:
                return True

    def _mark(self, record: object, endpoints: set[tuple[str, str]], nodes: set[str], stacks: set[str]) -> None:
        match record:
            case Task():
                endpoints.update((endpoint.network, record.id) for endpoint in record.endpoints)
                if record.node is not None:
                    nodes.add(record.node)
            case TaskStatus():
                task = self.state.tasks.get(record.task)
                if task is not None:
                    self._mark(task, endpoints, nodes, stacks)
            case NodeState(node=node) | Session(node=node) | Node(id=node):
                nodes.add(node)
                endpoints.add((INGRESS, node))
                for task_id in self.state.tasks_on.get(node, ()):
                    endpoints.update((one.network, task_id) for one in self.state.tasks[task_id].endpoints)
                for ident in self.state.attachments_on.get(node, ()):
                    endpoints.add((self.state.attachments[ident].network, ident))
            case Attachment():
                endpoints.add((record.network, record.id))
                nodes.update([record.node] if record.node else self.state.sessions)
            case Claim(kind="address") if record.owner in self.state.attachments:
                self._mark(self.state.attachments[record.owner], endpoints, nodes, stacks)
            case Network():
                nodes.update(reader.node for reader in self._reading.get(record.id, ()))
                nodes.update(
                    task.node
                    for task_id in self.state.tasks_in.get(record.id, ())
                    if (task := self.state.tasks[task_id]).node is not None
                )
                if record.id == INGRESS:
                    nodes.update(self.state.node_states)
            case Stack():
                stacks.add(record.name)
                for uid in self.state.services_of.get(record.uid, ()):
                    tasks = map(self.state.tasks.__getitem__, self.state.tasks_of.get(uid, ()))
                    nodes.update(task.node for task in tasks if task.node is not None)
            case Claim(kind="port"):
                service = self.state.services.get(record.owner)
                if service is not None:
                    stacks.add(service.stack)
            case Volume(removing=True):
                nodes.add(record.node)
            case _:
                pass

    def _virtual(self, record: object) -> Iterator[tuple[str, str]]:
        """Name the virtual addresses, by network and service, that a record makes a difference to."""
        match record:
            case Claim(kind="address"):
                yield record.name.rpartition("/")[0], record.owner
            case ServiceState():
                yield from ((network, record.uid) for network in self.state.virtual_addresses(record.uid))
            case Stack():
                for uid in self.state.services_of.get(record.uid, ()):
                    yield from ((network, uid) for network in self.state.virtual_addresses(uid))
            case _:
                pass

    @property
    def pace(self) -> float:
        """Seconds that a session lets pass between two sets, so that all together keep to MOST_SETS."""
        return max(PACE, self.readers / MOST_SETS)

    def _forget_made(self) -> None:
        if len(self.made) > 2 * len(self.state.services) + SPARE:
            self.made.clear()

    def _publish(self, stack: str) -> None:
        items = {item.ident: item for item in ports(self.state, stack)}
        before = self._published.pop(stack, set())
        if items:
            self._published[stack] = set(items)
        for ident, item in items.items():
            self._put(PORTS, ident, item)
        elsewhere = set().union(*self._published.values()) if before - set(items) else set()
        for ident in before - set(items) - elsewhere:
            self._put(PORTS, ident, None)

    def _put(self, name: str, ident: str, item: Item | None) -> None:
        if self._topics[name].put(ident, item):
            for reader in self._reading.get(name, ()):
                reader.news.set()

    def _follow(self, reader: Reader, name: str) -> None:
        self._reading.setdefault(name, set()).add(reader)

    def _leave(self, reader: Reader, name: str) -> None:
        readers = self._reading.get(name, set())
        readers.discard(reader)
        if not readers:
            self._reading.pop(name, None)
            if name != PORTS:
                self._topics.pop(name, None)


def _own(node: str) -> str:
    return f"node/{node}"


class News(NamedTuple):
    """What a reader has not been told yet. If `full`, the parts are all there are, and whatever else it had is gone,
    but for the topics that it has as they are: those are `kept`."""

    revision: int
    full: bool
    parts: dict[str, Part]
    gone: set[str]
    kept: tuple[str, ...] = ()


class Reader:
    """One session's place on the board. `news` is set when there may be something to read."""

    def __init__(self, board: Board, node: str, has: Mapping[str, str]) -> None:
        self.node = node
        self._has = has
        self.news = asyncio.Event()
        self.news.set()
        self.stale = True
        self._board = board
        self._own: dict[str, Item] = {}
        self._places: dict[str, int] = {}
        self._behind = True
        board.readers += 1
        board._follow(self, _own(node))

    @property
    def pace(self) -> float:
        return self._board.pace

    async def turn(self) -> None:
        """Wait until this session may work on: at most EACH_ROUND of all do in one round of the event loop."""
        await self._board.turns.take()

    async def turn_to_hear(self) -> None:
        """Wait until what has come may be taken in."""
        await self._board.hearing.take()

    def close(self) -> None:
        self._board.readers -= 1
        for name in (*self._places, _own(self.node)):
            self._board._leave(self, name)

    def enter(self) -> Iterator[str]:
        """Enter the node's networks that nobody reads yet, one at each step.

        To work out a large network takes milliseconds: done before `read`, others have their turn between two of them.
        """
        for name in memberships(self._board.state, self.node) if self.stale else ():
            if not self._board.has(name):
                self._board.topic(name)
                self._places[name] = 0  # everything in it is to be read
                self._board._follow(self, name)
                yield name

    def read(self) -> News:
        """Give what is new, changed or gone since the last time; at first, and after too many changes, everything."""
        self.news.clear()
        parts: dict[str, Part] = {}
        gone: set[str] = set()
        if self.stale:
            self.stale = False
            self._read_own(parts, gone)
        for name in tuple(self._places):
            self._read_topic(name, parts, gone)
        full, self._behind = self._behind, False
        if not full:
            return News(self._board.state.revision, full, parts, gone)
        topics = {name: self._board.topic(name) for name in self._places}
        kept = {name for name, topic in topics.items() if topic.parts and self._has.get(name) == topic.digest}
        self._has = {}
        parts = {ident: part(item) for ident, item in self._own.items()}
        for name in topics.keys() - kept:
            parts.update(topics[name].parts)
        return News(self._board.state.revision, full, parts, set(), tuple(sorted(kept)))

    def _read_own(self, parts: dict[str, Part], gone: set[str]) -> None:
        state = self._board.state
        found = own(state, self.node, self._board.made)
        parts.update((ident, part(item)) for ident, item in found.items() if self._own.get(ident) != item)
        gone.update(ident for ident in self._own if ident not in found)
        self._own = found
        wanted = {PORTS, *memberships(state, self.node)}
        for name in [name for name in self._places if name not in wanted]:
            topic, place = self._board.topic(name), self._places.pop(name)
            self._behind |= place < topic.forgotten
            gone.update(topic.parts, topic.since(place))
            self._board._leave(self, name)
        for name in wanted - set(self._places):
            topic = self._board.topic(name)
            self._places[name] = topic.version
            self._board._follow(self, name)
            parts.update(topic.parts)

    def _read_topic(self, name: str, parts: dict[str, Part], gone: set[str]) -> None:
        topic, place = self._board.topic(name), self._places[name]
        self._places[name] = topic.version
        self._behind |= place < topic.forgotten
        for ident in topic.since(place):
            written = topic.parts.get(ident)
            if written is None:
                gone.add(ident)
            else:
                parts[ident] = written
