"""Published ports beside a real engine that keeps its own rules."""

from __future__ import annotations

import pytest

from agent.network.wiring import Wiring
from cluster.assignments import NetworkItem
from tests.agent.network.underlay import INGRESS_NETWORK, inside
from tests.engines import ADDRESS, EngineHost

pytestmark = [pytest.mark.root, pytest.mark.engine]


async def test_the_engine_keeps_our_rules_and_we_keep_its() -> None:
    host = EngineHost("20.10", "firewall")
    host.boot()
    try:
        home = host.network_namespace()
        inside(home, "iptables", "-P", "FORWARD", "DROP")
        wiring = Wiring("h1", ADDRESS, netns=host.netns, links=host.links, home=home)
        await wiring.open()
        try:
            await wiring.apply([NetworkItem(INGRESS_NETWORK, ("10.100.250.1",))])
            assert inside(home, "iptables", "-S", "FORWARD").count("sy-ingress -j ACCEPT") == 2

            host.start_engine(iptables=True)
            own = inside(home, "iptables", "-S", "DOCKER-USER")
            await wiring.audit()
            assert inside(home, "iptables", "-S", "DOCKER-USER").count("sy-ingress -j ACCEPT") == 2
            assert "DOCKER" in inside(home, "iptables", "-t", "nat", "-S")

            host.stop_engine()
            host.start_engine(iptables=True)
            rules = inside(home, "iptables", "-S")
            assert rules.count("-A DOCKER-USER") == 3 and "sy-ingress -j ACCEPT" in rules
            assert "hook prerouting" in inside(home, "nft", "list", "table", "inet", "stackyard")

            await wiring.apply([])
            await wiring.clean((), ())
            assert "sy-ingress" not in inside(home, "iptables", "-S")
            assert inside(home, "iptables", "-S", "DOCKER-USER") == own
        finally:
            await wiring.close()
    finally:
        host.end()
