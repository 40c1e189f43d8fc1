"""What a node's own kernel tells of its share of the networks: what others hold, and what nothing accounts for."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from agent.network.kernel import MARK, NETWORKS
from agent.network.namespaces import Namespaces
from agent.network.netlink_socket import Netlink
from agent.network.plan import NODE_LINKS, VXLAN_PORT, Overlay, around, node_link
from agent.network.sandboxes import SANDBOXES
from cluster.examination import Foreign


@dataclass(frozen=True, slots=True)
class Survey:
    """The link that carries the address between nodes, with its MTU; see `cluster.examination.NodeReport`."""

    link: str
    mtu: int
    needed: int
    stale: tuple[str, ...]
    foreign: tuple[Foreign, ...]


def survey(
    home: Netlink, namespaces: Namespaces, vtep: str, overlays: Iterable[Overlay], wanted: Collection[str],
    tasks: Collection[str], mtu_at_start: int,
) -> Survey:  # fmt: skip
    """Look at the kernel. `wanted` names the networks, `tasks` the sandboxes, that are accounted for."""
    links = home.links()
    index = next((index for index, address, _ in home.addresses() if address == vtep), 0)
    here = links.get(index)
    needed = max((o.mtu + around(vtep, encrypted=o.encrypted) for o in overlays), default=mtu_at_start)
    stale = [name for name in namespaces.names(NETWORKS) if name.removeprefix(NETWORKS) not in wanted]
    stale += [name for name in namespaces.names(SANDBOXES) if name.removeprefix(SANDBOXES) not in tasks]
    kept = set(map(node_link, wanted))
    stale += [
        link.name
        for link in links.values()
        if link.name.startswith(NODE_LINKS) and link.alias == MARK and link.name not in kept
    ]
    foreign = [
        Foreign(link.name, link.vxlan[0]) for link in links.values() if link.vxlan and link.vxlan[2] == VXLAN_PORT
    ]
    return Survey(
        "" if here is None else here.name, 0 if here is None else here.mtu, needed, tuple(sorted(stale)), tuple(foreign)
    )
