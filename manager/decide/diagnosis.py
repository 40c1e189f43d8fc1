"""What is wrong with a cluster's network, from the picture and from what its nodes found when they were examined. Pure.

A finding says what is seen, and its remedy what a person can do about it; both are one line.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from cluster.examination import CLOCK_TOLERANCE, Diagnosis, Finding, NodeReport, Probed
from cluster.model.node import NodeStatus, SessionState
from cluster.protocol import Examined
from manager.decide.routes import clashes
from manager.picture import ClusterState


@dataclass(frozen=True, slots=True)
class _Way:
    """The way from a node to another, by their names."""

    source: str
    target: str
    probed: Probed
    needed: int

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}"


def diagnose(
    state: ClusterState, answers: Mapping[str, Examined], behind: Mapping[str, Collection[str]] | None = None
) -> Diagnosis:
    """Put together what the picture and the answers of nodes, by their ids, tell.

    `behind` names the networks of which a node knows something else than is so.
    """
    names = {ident: node.name for ident, node in state.nodes.items()}
    reports = {names[node]: answer.report for node, answer in answers.items() if node in names and answer.report}
    ways = sorted(
        (
            _Way(node, names[probed.target.node], probed, report.needed)
            for node, report in reports.items()
            for probed in report.probed
            if probed.target.node in names
        ),
        key=lambda way: (way.source, way.target),
    )
    deaf = {node for node, report in reports.items() if report.deaf}
    narrow = {node for node, report in reports.items() if _is_narrow(report)}
    findings = (
        *_unexamined(state, answers),
        *_duplicates(state),
        *_routed(state),
        *(finding for node, report in sorted(reports.items()) for finding in of_node(node, report)),
        *_foreign(state, reports),
        *(finding for node, report in sorted(reports.items()) for finding in _astray(state, node, report)),
        *_behind(state, behind or {}),
        *_ways([way for way in ways if way.target not in deaf], names),
        *_spoilt(ways, reports),
        *_narrow([way for way in ways if narrow.isdisjoint((way.source, way.target))]),
        *_clocks(ways),
    )
    looked_up = sum(report.names for report in reports.values()), sum(report.vips for report in reports.values())
    return Diagnosis(len(reports), len(ways), *looked_up, findings)


def of_node(node: str, report: NodeReport) -> Iterator[Finding]:
    """Say what a node's own kernel tells."""
    if report.deaf:
        remedy = f"`ss -ulpn sport = 4789` on {node} shows who holds the port; the agent tries again by itself."
        yield Finding("deaf", node, f"other nodes' probes are not answered: {report.deaf}", remedy)
    if _is_narrow(report):
        yield Finding(
            "mtu",
            node,
            f"its link {report.link} takes packets of {report.mtu} bytes, its networks send up to {report.needed}",
            f"Set it back (`ip link set {report.link} mtu {report.needed}`), or restart the agent and deploy anew.",
        )
    for name in report.stale:
        remedy = "The agent's log tells why it stays; it is tried again every minute."
        yield Finding("stale", node, f"{name} belongs to nothing, and could not be removed", remedy)
    for name in report.removed:
        yield Finding("stale", node, f"{name} belonged to nothing, and was removed", mended=True)


def _is_narrow(report: NodeReport) -> bool:
    return 0 < report.mtu < report.needed


def _unexamined(state: ClusterState, answers: Mapping[str, Examined]) -> Iterator[Finding]:
    for ident, node in sorted(state.nodes.items(), key=lambda item: item[1].name):
        answer, verdict = answers.get(ident), state.node_states.get(ident)
        if answer is not None and answer.report is not None:
            continue
        session = state.sessions.get(ident)
        if verdict is not None and verdict.status is not NodeStatus.READY:
            why, remedy = f"it is {verdict.status}", f"`stack node inspect {node.name}` tells since when and why."
        elif session is None or session.state is not SessionState.OPEN:
            why, remedy = "its agent is not connected", f"See to the agent on {node.name}."
        elif answer is None:
            why, remedy = "its agent is too old for that", "Bring the node to this release."
        else:
            why, remedy = answer.problem, "Ask again; the agent's log tells more."
        yield Finding("unexamined", node.name, f"it was not examined: {why}", remedy)


def _duplicates(state: ClusterState) -> Iterator[Finding]:
    """Find what two have though only one may; that the claims keep from coming about."""
    vnis: dict[int, list[str]] = {}
    for network in state.networks.values():
        vnis.setdefault(network.vni, []).append(network.name)
    for vni, named in sorted(vnis.items()):
        if len(named) > 1:
            remedy = "Remove and deploy again the stack of one of them."
            yield Finding("duplicate-vni", ", ".join(sorted(named)), f"they share the VXLAN number {vni}", remedy)
    vteps: dict[str, list[str]] = {}
    for ident, session in state.sessions.items():
        if ident in state.nodes and session.state is SessionState.OPEN:
            vteps.setdefault(session.description.address, []).append(state.nodes[ident].name)
    for address, nodes in sorted(vteps.items()):
        if len(nodes) > 1:
            remedy = "Start the agents with --advertise, each with the address of its own host."
            yield Finding("duplicate-address", ", ".join(sorted(nodes)), f"they all say to have {address}", remedy)


def _routed(state: ClusterState) -> Iterator[Finding]:
    """Find routes that came after a network had been made: those before are kept to."""
    for network, route in clashes(state):
        what = f"{route} leads to addresses of network {network.name}: what has them there is not reached"
        remedy = f"Take the route off {route.node}, or give the network another subnet (ipam.config.subnet)."
        yield Finding("route", route.node, what, remedy)


def shared_addresses(state: ClusterState, network: str) -> Iterator[Finding]:
    """Find addresses that two tasks of a network have. Takes some time where it has thousands of tasks."""
    holders: dict[str, list[str]] = {}
    for ident in state.tasks_in.get(network, ()):
        task = state.tasks[ident]
        for endpoint in task.endpoints if not state.has_ended(task) else ():
            for address in endpoint.addresses if endpoint.network == network else ():
                holders.setdefault(address, []).append(ident)
    for address, tasks in sorted(holders.items()):
        if len(tasks) > 1:
            what = f"tasks {', '.join(sorted(tasks))} have the same address {address}"
            remedy = "`stack update --force` of their services makes new ones."
            yield Finding("duplicate-address", state.networks[network].name, what, remedy)


def _foreign(state: ClusterState, reports: Mapping[str, NodeReport]) -> Iterator[Finding]:
    ours = {network.vni: network.name for network in state.networks.values()}
    for node, report in sorted(reports.items()):
        for link in report.foreign:
            if link.vni in ours:
                what = f"its link {link.link}, which is not ours, has the VXLAN number {link.vni} of {ours[link.vni]}"
                remedy = f"Give that link another number or port, or remove it (`ip link del {link.link}` on {node})."
                yield Finding("duplicate-vni", node, what, remedy)


def _astray(state: ClusterState, node: str, report: NodeReport) -> Iterator[Finding]:
    for one in report.astray:
        task = state.tasks.get(one.task)
        service = None if task is None else state.services.get(task.service_uid)
        name = one.task if task is None or service is None else f"{service.full_name}.{task.slot}"
        what = f"in {name}, {one.name} leads to {one.told}, not to {one.meant}"
        remedy = f"See `nft list ruleset` in the namespace sy-{one.task} on {node}; restarting the agent is harmless."
        yield Finding("name", node, what, "" if one.mended else remedy, one.mended)


def _behind(state: ClusterState, behind: Mapping[str, Collection[str]]) -> Iterator[Finding]:
    for ident, networks in sorted(behind.items()):
        named = sorted(state.networks[network].name for network in networks if network in state.networks)
        if ident in state.nodes and named:
            node = state.nodes[ident].name
            what = f"its agent works from an older state of {', '.join(named[:4])}" + (" and more" * (len(named) > 4))
            yield Finding("behind", node, what, f"Restart the agent on {node}; its log tells what keeps it.")


def _ways(ways: list[_Way], names: Mapping[str, str]) -> Iterator[Finding]:
    for way in ways:
        if way.probed.answerer in ("", way.probed.target.node):
            continue
        what = (
            f"{way.probed.target.address} is answered by {names.get(way.probed.answerer, way.probed.answerer)} instead"
        )
        yield Finding("duplicate-address", str(way), what, "Two hosts have that address: give each its own.")
    silent = [way for way in ways if not way.probed.passed]
    out_of, into = Counter(way.source for way in ways), Counter(way.target for way in ways)
    silent_out, silent_in = Counter(way.source for way in silent), Counter(way.target for way in silent)
    for way in silent:
        what = f"packets to UDP port 4789 of {way.probed.target.address} are not answered"
        if way.probed.refused:
            what = f"its own kernel refuses packets to UDP port 4789 of {way.probed.target.address}"
            what += f": {way.probed.refused}"
            remedy = f"Let UDP port 4789 out on {way.source}, and look at its routes."
        elif silent_in[way.target] == into[way.target] > 1 or into[way.target] == 1 < out_of[way.source]:
            remedy = f"Nobody is answered by {way.target}: let UDP port 4789 in there."
        elif silent_out[way.source] == out_of[way.source] > 1:
            remedy = f"Nobody answers {way.source}: let UDP port 4789 out there."
        else:
            remedy = f"Let UDP port 4789 in on {way.target}, out on {way.source}, and through whatever is between them."
        yield Finding("udp", str(way), what, remedy)


def _narrow(ways: list[_Way]) -> Iterator[Finding]:
    for way in ways:
        if 0 < way.probed.passed < way.needed:
            what = f"packets of up to {way.probed.passed} bytes pass, its networks send up to {way.needed}"
            remedy = (
                f"Raise the MTU between the two to {way.needed}, or set the driver_opts mtu of networks to "
                f"{way.probed.passed - (70 if ':' in way.probed.target.address else 50)}."
            )
            yield Finding("mtu", str(way), what, remedy)


def _spoilt(ways: list[_Way], reports: Mapping[str, NodeReport]) -> Iterator[Finding]:
    """Say whose packets come with wrong checksums, which is where the card that was to compute them does not."""
    of: dict[str, list[str]] = {}
    for way in ways:
        if way.probed.spoilt:
            of.setdefault(way.source, []).append(way.target)
    for source, targets in of.items():
        link = reports[source].link
        what = f"packets to {', '.join(targets)} only arrive if their checksums are not left to {link} to compute"
        yield Finding(
            "checksum", source, what, f"Have the kernel compute them: `ethtool -K {link} tx off` on {source}."
        )


def _clocks(ways: list[_Way]) -> Iterator[Finding]:
    """Say whose clock is not that of the most of the others."""
    apart: dict[str, list[tuple[str, float]]] = {}
    for way in ways:
        ahead, give = way.probed.ahead, way.probed.give
        if way.probed.passed and abs(ahead) > CLOCK_TOLERANCE + give:
            apart.setdefault(way.target, []).append((way.source, ahead))
            apart.setdefault(way.source, []).append((way.target, -ahead))
    while apart:
        # Whoever differs from the most is wrong; the others then no longer differ from it.
        worst = max(sorted(apart), key=lambda node: len({other for other, _ in apart[node]}))
        others = {other for other, _ in apart[worst]}
        differs = sorted(seconds for _, seconds in apart.pop(worst))
        ahead = differs[len(differs) // 2]
        than = next(iter(others)) if len(others) == 1 else f"{len(others)} other nodes"
        what = f"its clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} that of {than}"
        remedy = f"Have {worst} keep time (chrony, systemd-timesyncd): restarts and certificates go by it."
        yield Finding("clock", worst, what, remedy)
        apart = {
            node: kept for node, seen in apart.items() if (kept := [one for one in seen if one[0] != worst])
        }  # fmt: skip
