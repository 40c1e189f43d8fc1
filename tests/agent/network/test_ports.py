"""Rules of published ports, as data and as nft itself understands them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agent.network.namespaces import Namespaces
from agent.network.nft import Nftables
from agent.network.ports import TABLE, Rules, changes, forget, rules, udp_backends, whole
from cluster.assignments import PeerItem, PortItem
from cluster.errors import Failed
from cluster.model.service import PortSpec
from tests.agent.network.underlay import ROOT


def peer(
    n: int, service: str = "web", *, ready: bool = True, node: str = "n1", v6: bool = False, keeps: bool = True
) -> PeerItem:
    addresses = (f"10.2.0.{n}", f"fd00::{n}") if v6 else (f"10.2.0.{n}",)
    return PeerItem(
        "ingress", f"t{n:02d}", node, "", addresses, "", ready, "shop", service, service, n, keeps_source=keeps
    )


def port(
    published: int = 8080,
    service: str = "web",
    mode: Literal["ingress", "host"] = "ingress",
    protocol: Literal["tcp", "udp"] = "tcp",
    host_ip: str = "",
) -> PortItem:
    return PortItem(service, PortSpec(80, published, protocol, mode, host_ip))


def elements(ports: list[PortItem], peers: list[PeerItem]) -> dict[str, str]:
    return {f"{where} {key}": value for (where, key), value in rules("n1", "sy-ingress", ports, peers).elements.items()}


@pytest.mark.parametrize(
    ("ports", "peers", "expected"),
    [
        pytest.param(
            [port()], [peer(2), peer(1), peer(3, ready=False), peer(4, "api")],
            {"tcp4_ports 8080": "goto tcp4_2", "tcp4 8080 . 0": "10.2.0.1 . 80", "tcp4 8080 . 1": "10.2.0.2 . 80"},
            id="leads to the ready endpoints of its service",
        ),
        pytest.param([port()], [peer(1, ready=False)], {"tcp4_ports 8080": "goto refused"}, id="nobody ready: refused"),
        pytest.param([port(mode="host")], [peer(1, node="n2")], {}, id="mode host without a task here is nobody's"),
        pytest.param(
            [port(mode="host")], [peer(1, node="n2"), peer(2)],
            {"tcp4_ports 8080": "goto tcp4_1", "tcp4 8080 . 0": "10.2.0.2 . 80"}, id="mode host leads to tasks here",
        ),
        pytest.param(
            [port(host_ip="127.0.0.1", protocol="udp")], [peer(1)],
            {"udp4_bound 127.0.0.1 . 8080": "goto udp4_1", "udp4 8080 . 0": "10.2.0.1 . 80"}, id="bound to an address",
        ),
        pytest.param(
            [port()], [peer(1, v6=True)],
            {
                "tcp4_ports 8080": "goto tcp4_1", "tcp4 8080 . 0": "10.2.0.1 . 80",
                "tcp6_ports 8080": "goto tcp6_1", "tcp6 8080 . 0": "fd00::1 . 80",
            },
            id="by IPv6 where endpoints have it",
        ),
        pytest.param(
            [port()], [peer(1), peer(2, keeps=False)],
            {
                "tcp4_ports 8080": "goto tcp4_2", "tcp4 8080 . 0": "10.2.0.1 . 80", "tcp4 8080 . 1": "10.2.0.2 . 80",
                "hidden4 10.2.0.2": "goto hidden",
            },
            id="the client is hidden where answers would not find back",
        ),
        pytest.param(
            [replace(port(), local_first=True)], [peer(1, node="n2"), peer(2)],
            {"tcp4_ports 8080": "goto tcp4_1", "tcp4 8080 . 0": "10.2.0.2 . 80"}, id="those here first, if asked to",
        ),
        pytest.param(
            [replace(port(), local_first=True)], [peer(1, node="n2"), peer(2, ready=False)],
            {"tcp4_ports 8080": "goto tcp4_1", "tcp4 8080 . 0": "10.2.0.1 . 80"}, id="others where none is here",
        ),
        pytest.param(
            [port(host_ip="::1")], [peer(1, v6=True)],
            {"tcp6_bound ::1 . 8080": "goto tcp6_1", "tcp6 8080 . 0": "fd00::1 . 80"}, id="bound to an IPv6 address",
        ),
    ],
)  # fmt: skip
def test_a_port(ports: list[PortItem], peers: list[PeerItem], expected: dict[str, str]) -> None:
    assert elements(ports, peers) == expected


def test_where_udp_ports_lead() -> None:
    published = [port(53, protocol="udp"), port(54, "api", protocol="udp", host_ip="127.0.0.1"), port(80)]
    found = rules("n1", "sy-ingress", published, [peer(1), peer(2)])
    assert udp_backends(found) == {53: {("10.2.0.1", 80), ("10.2.0.2", 80)}, 54: set()}


def test_nothing_changed_is_nothing_to_say() -> None:
    held = rules("n1", "sy-ingress", [port()], [peer(1)])
    assert changes(held, rules("n1", "sy-ingress", [port()], [peer(1)])) == ""


@pytest.fixture(scope="module")
def nft() -> Iterator[Nftables]:
    """nft in a network namespace of its own, which ends with the fixture's thread."""
    spaces = Namespaces(ROOT, threads=1)

    def enter() -> Nftables:
        ROOT.mkdir(exist_ok=True)
        spaces.delete("nft")
        with spaces.created("nft") as fd, spaces.inside(fd):
            return Nftables()

    opened = spaces.pool.submit(enter).result()
    try:
        yield opened
    finally:
        opened.close()
        spaces.delete("nft")
        spaces.close()
        ROOT.rmdir()


def listing(nft: Nftables) -> list[str]:
    return sorted(nft.run(f"list table {TABLE}").replace(",", " ").split())


ports = st.builds(
    port, st.integers(80, 84), st.sampled_from(["web", "api"]), st.sampled_from(["ingress", "host"]),
    st.sampled_from(["tcp", "udp"]), st.sampled_from(["", "127.0.0.1", "::1"]),
)  # fmt: skip
peers = st.builds(
    peer, st.integers(1, 9), st.sampled_from(["web", "api"]), ready=st.booleans(), v6=st.booleans()
)  # fmt: skip
states = st.tuples(
    st.lists(ports, max_size=5, unique_by=lambda p: (p.port.protocol, p.port.published)),
    st.lists(peers, max_size=6, unique_by=lambda p: p.owner),
).map(lambda drawn: rules("n1", "sy-ingress", *drawn))


@pytest.mark.root
@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(states, min_size=2, max_size=4))
def test_changes_lead_where_the_whole_table_leads(nft: Nftables, steps: list[Rules]) -> None:
    held = steps[0]
    nft.run(whole(held, anew=True))
    for wanted in steps[1:]:
        if commands := changes(held, wanted):
            nft.run(commands)
        held = replace(wanted, chains=held.chains | wanted.chains)
    walked = listing(nft)
    for anew in (False, True):
        nft.run(whole(held, anew=anew))
        assert listing(nft) == walked


@pytest.mark.root
def test_a_table_is_exchanged_in_place(nft: Nftables) -> None:
    """Of two chains, the one before the exchange and the one after it, a connection may find either the wrong one."""
    state = rules("n1", "sy-ingress", [port()], [peer(1), peer(2)])
    nft.run(whole(state, anew=True))
    before = nft.run(f"list table {TABLE}", handles=True)
    nft.run(f"add rule {TABLE} prerouting drop")
    nft.run(whole(state))
    after = nft.run(f"list table {TABLE}", handles=True)
    kept = [line for line in before.splitlines() if re.match(r"\s*(table|chain|map) .* # handle", line)]
    assert len(kept) > 10
    assert kept == [line for line in after.splitlines() if re.match(r"\s*(table|chain|map) .* # handle", line)]
    assert listing(nft) == sorted(re.sub(r" # handle \d+", "", before).replace(",", " ").split())


@pytest.mark.root
def test_chains_of_earlier_releases_go_when_a_table_is_exchanged(nft: Nftables) -> None:
    state = rules("n1", "sy-ingress", [port()], [peer(1)])
    nft.run(whole(state, anew=True))
    fresh = listing(nft)
    nft.run(f"add chain {TABLE} guard {{ type filter hook prerouting priority -310; }}")
    nft.run(f"add chain {TABLE} input {{ type filter hook input priority -10; }}")
    nft.run(f"add rule {TABLE} input iifname sy-ingress ct state new drop")
    nft.run(whole(state))
    assert listing(nft) == fresh


@pytest.mark.root
def test_who_draws_a_backend_that_goes_in_that_moment_is_led_to_the_first(nft: Nftables) -> None:
    nft.run(whole(rules("n1", "sy-ingress", [port()], [peer(1), peer(2), peer(3)])))
    draws = re.findall(r"dnat .*", nft.run(f"list chain {TABLE} tcp4_3"))
    assert [re.search(r"mod \d+", draw)[0] for draw in draws] == ["mod 3", "mod 1"]  # type: ignore[index]


@pytest.mark.root
def test_a_refusal_tells_what_nft_says_and_changes_nothing(nft: Nftables) -> None:
    nft.run(whole(rules("n1", "sy-ingress", [port()], [peer(1)])))
    before = listing(nft)

    with pytest.raises(Failed, match="No such file or directory"):
        nft.run(f"delete element {TABLE} tcp4_ports {{ 8080 }}\ndelete element {TABLE} nothing {{ 1 }}")

    assert listing(nft) == before
    nft.run(forget())
    nft.run(forget())
