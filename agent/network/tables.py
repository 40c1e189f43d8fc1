"""The node's own nftables tables: where published ports lead, and what containers may send outside.

Blocking, for one thread at a time, in the node's namespace.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from functools import partial

from agent.network import egress
from agent.network.conntrack import settle
from agent.network.firewall import Firewall
from agent.network.netlink_socket import Netlink
from agent.network.nft import Nftables
from agent.network.plan import VXLAN_PORT, Overlay
from agent.network.ports import PROBE, TABLE, Rules, changes, forget, udp_backends, whole
from cluster.errors import Failed

log = logging.getLogger(__name__)

Doors = tuple[frozenset[egress.Door], frozenset[str], frozenset[egress.Door]]
"""Those that are shut, who is let in all the same, and by which."""


class NodeTables:
    """What was loaded is remembered, so that a change costs what changed, and compared with the kernel by `audit`."""

    def __init__(self, nft: Nftables, home: Netlink, flows: Netlink) -> None:
        self._nft, self._home, self._flows = nft, home, flows
        self.firewall = Firewall(nft)
        self._rules: Rules | None = None
        self._offered: Rules | None = None  # for when the table that an earlier process left goes
        self._listings: dict[str, str] = {}  # as they were after they had been loaded
        self._outward: frozenset[str] | None = None  # None: what an earlier process left
        self._doors: Doors = (frozenset(), frozenset(), frozenset())

    def probe(self) -> None:
        """Raise Failed where the kernel cannot keep the address of clients of published ports."""
        self._nft.run(PROBE)

    def lead_out(
        self, overlays: Iterable[Overlay], managers: Collection[str], let_in: frozenset[str], *, prune: bool
    ) -> None:
        """Let networks that are not internal lead outside, by the node's own links into them, but not to managers.

        The API of these (their URLs) is open to the addresses that are `let_in`.
        """
        shut, api = egress.doors(managers), egress.apis(managers)
        subnets = frozenset(s for overlay in overlays if overlay.gateways for s in overlay.subnets)
        if not prune:
            subnets |= self._outward or frozenset()
        if not prune:
            let_in |= self._doors[1]
        held = (shut, let_in, api if let_in else frozenset())
        if (subnets, held) == (self._outward, self._doors) or not (prune or subnets):
            return
        if not prune and self._outward is None and self._list(egress.TABLE):
            return  # what an earlier process left is not older than what may be old
        if subnets:
            self._load(egress.TABLE, egress.whole(subnets, VXLAN_PORT, *held))
            self.firewall.let_through(egress.LINKS)
        else:
            self._nft.run(egress.forget())
            self.firewall.stop(egress.LINKS)
        self._outward, self._doors = subnets, held

    def publish(self, wanted: Rules | None, *, prune: bool) -> None:
        """Lead published ports to where they should lead."""
        held = self._rules
        if wanted is None:
            if held is not None and prune:
                self.unpublish(held.link)
            return
        if not prune and held is None and self._list(TABLE):
            self._offered = wanted
            return  # what an earlier process left is not older than what may be old
        if held is None or held.link != wanted.link:
            self._take_over(wanted)
            self.firewall.let_through(wanted.link)
        elif commands := changes(held, wanted):
            self._nft.run(commands)
            wanted = replace(wanted, chains=held.chains | wanted.chains)
        else:
            return
        self._rules, self._listings[TABLE] = wanted, self._list(TABLE)
        if (udp := udp_backends(wanted)) and (held is None or udp != udp_backends(held)):
            settle(self._flows, {address for _, address, _ in self._home.addresses()}, udp)

    def _take_over(self, wanted: Rules) -> None:
        try:
            self._nft.run(whole(wanted))
        except Failed as error:
            log.info("the nftables table %s cannot be changed in place, making it anew: %s", TABLE, error.message)
            self._nft.run(whole(wanted, anew=True))

    def unpublish(self, link: str) -> None:
        """Forget all published ports."""
        self._nft.run(forget())
        self.firewall.stop(link)
        self._rules = self._offered = None

    def audit(self, *, firewall: bool) -> None:
        """Load again what somebody else has changed, and look at the host's own `firewall` too or not."""
        if self._rules is None:
            self.publish(self._offered, prune=False)
        if self._rules is not None:
            self._mend(TABLE, partial(whole, self._rules, anew=True))
            if firewall:
                self.firewall.let_through(self._rules.link)
        if self._outward:
            self._mend(egress.TABLE, partial(egress.whole, self._outward, VXLAN_PORT, *self._doors))
            if firewall:
                self.firewall.let_through(egress.LINKS)

    def _mend(self, table: str, text: Callable[[], str]) -> None:
        if self._list(table) != self._listings.get(table):
            log.warning("the nftables table %s was changed by someone else, loading it again", table)
            self._load(table, text())

    def _load(self, table: str, text: str) -> None:
        self._nft.run(text)
        self._listings[table] = self._list(table)

    def _list(self, table: str) -> str:
        """The table as nft shows it, in an order that does not depend on that of its hash tables."""
        try:
            return " ".join(sorted(self._nft.run(f"list table {table}").replace(",", " ").split()))
        except Failed:
            return ""
