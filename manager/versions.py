"""Which release each program of the cluster runs, and what may be written because of that. Pure.

While managers and agents are replaced one by one, those of two releases work together, and one can go back. So the
cluster's version (Cluster.version) tells what the oldest of them understands, and whatever is newer is not written.
When all run the new release, `stack upgrade --finish` raises it; from then on an older manager refuses to read it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from cluster.codec import Record, since
from cluster.errors import Conflict
from cluster.model.network import NetworkSpec
from cluster.model.node import Node
from cluster.model.oneoff import OneOff
from cluster.model.service import ServiceSpec
from cluster.model.user import User
from cluster.protocol import LOCKED_FILES, NETWORK_OPTIONS, STOPPED_SERVICES, VERSION
from cluster.views import ProgramView, UpgradeView
from manager.picture import ClusterState

_WORDS: dict[type[Record], str] = {User: "users", OneOff: "one-off tasks"}


def allows(state: ClusterState, version: int) -> bool:
    """Tell whether the cluster may write what is known from this version on only."""
    return state.cluster is None or state.cluster.version >= version


def check_records(state: ClusterState, records: Iterable[Record]) -> None:
    """Raise Conflict for records of which the cluster's older managers, if it has some, know nothing."""
    for record in records:
        if not allows(state, since(type(record))):
            raise _too_early(_WORDS.get(type(record), f"records of {type(record).__name__.lower()}s"))


def check_networks(state: ClusterState, networks: Iterable[NetworkSpec]) -> None:
    """Raise Conflict for networks that an older manager would take for other ones."""
    for network in networks:
        if (network.encrypted or network.ipv6 or network.gateways) and not allows(state, NETWORK_OPTIONS):
            asked = "encrypted" if network.encrypted else "with IPv6" if network.ipv6 else "with a gateway of their own"
            raise _too_early(f"networks ({network.key}) that are {asked}")


def check_services(state: ClusterState, services: Iterable[ServiceSpec]) -> None:
    """Raise Conflict for services that an older manager would start."""
    if any(service.stopped for service in services) and not allows(state, STOPPED_SERVICES):
        raise _too_early("services that are stopped")


def check_locking(state: ClusterState) -> None:
    """Raise Conflict where a manager may run that would write the keys to secrets in clear."""
    if not allows(state, LOCKED_FILES):
        raise _too_early("managers that are locked")


def upgrade(state: ClusterState) -> UpgradeView:
    """Tell how far an upgrade is: who runs what, and who is behind."""
    assert state.cluster is not None
    newest = max((VERSION, *(manager.version for manager in state.managers.values())))
    programs = (*_managers(state, newest), *_agents(state, newest))
    return UpgradeView(
        state.cluster.version, newest, programs if state.cluster.version < newest else _settled(programs)
    )


def _settled(programs: Iterable[ProgramView]) -> tuple[ProgramView, ...]:
    """Nothing keeps an upgrade from its end that is over, or never began."""
    return tuple(ProgramView(one.kind, one.name, one.version, one.release) for one in programs)


def _managers(state: ClusterState, newest: int) -> Iterator[ProgramView]:
    there = sorted(state.managers.values(), key=lambda manager: manager.name)
    for manager in there:
        behind = "" if manager.version >= newest else "it runs an older release"
        yield ProgramView("manager", manager.name, manager.version, manager.release, behind)
    for node in _sorted(state):
        if node.role == "manager" and node.name not in {manager.name for manager in there}:
            yield ProgramView("manager", node.name, 0, "", "it does not run, and what it would run is not known")


def _agents(state: ClusterState, newest: int) -> Iterator[ProgramView]:
    for node in _sorted(state):
        session = state.sessions.get(node.id)
        if session is None:
            yield ProgramView("agent", node.name, 0, "", "it has not been heard of")
            continue
        older = (
            "" if session.version >= newest else "it runs an older release, or was last heard of with an older manager"
        )
        yield ProgramView("agent", node.name, session.version, session.description.agent_version, older)


def _sorted(state: ClusterState) -> list[Node]:
    return sorted(state.nodes.values(), key=lambda node: node.name)


def _too_early(what: str) -> Conflict:
    return Conflict(
        f"{what} are not known to all releases that this cluster may still run",
        hint="`stack upgrade` shows who runs which; when all are upgraded, `stack upgrade --finish` allows it.",
    )
