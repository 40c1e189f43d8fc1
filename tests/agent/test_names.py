"""Names of a network: which endpoints each leads to."""

from __future__ import annotations

import ipaddress
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent.dns import AAAA, PTR, A
from agent.names import NetworkNames, Resolution, Verdict, resolve
from cluster.assignments import PeerItem, VipItem

UNKNOWN, ELSEWHERE = Resolution(Verdict.UNKNOWN), Resolution(Verdict.ELSEWHERE)
MX = 15


def peer(n: int, service: str = "web", stack: str = "shop", *, ready: bool = True, alias: str = "db") -> PeerItem:
    owner = f"{stack}{service}{n}".ljust(25, "f")
    last = n + 50 * (stack != "shop") + 20 * (service != "web")
    addresses = (f"10.1.0.{last}", f"fd00::{last:x}")
    return PeerItem("net", owner, "n1", "", addresses, "", ready, stack, service, service, n, (service, alias))


def network(*peers: PeerItem) -> NetworkNames:
    names = NetworkNames(("10.1.0.0/16", "fd00::/64"))
    names.apply({peer.owner: peer for peer in peers})
    return names


SHOP = network(
    peer(1), peer(2), peer(3, ready=False), replace(peer(4, ready=False), leaving=True),
    peer(1, "api"), peer(1, "web", "blog"), peer(2, "web", "blog"),
)  # fmt: skip
IDLE = network(peer(1, ready=False))
OTHER = network(peer(9, "web"), peer(8, "mail"))
BLOG = network(peer(1, "web", "blog"))


@pytest.mark.parametrize(
    ("name", "last_bytes"),
    [
        pytest.param("web", {1, 2}, id="a service is its ready endpoints of the own stack"),
        pytest.param("shop_web", {1, 2}, id="with the stack's name before it"),
        pytest.param("tasks.web", {1, 2}, id="all tasks of it"),
        pytest.param("tasks.shop_web", {1, 2}, id="all tasks of it by the full name"),
        pytest.param("all.tasks.web", {1, 2, 3}, id="those too that are not ready, but none that ends"),
        pytest.param("all.tasks.shop_web", {1, 2, 3}, id="the same by the full name"),
        pytest.param("web.2", {2}, id="one slot"),
        pytest.param("shop_web.2", {2}, id="one slot by the full name"),
        pytest.param("web.3", set(), id="a slot that is not ready is known and empty"),
        pytest.param("blog_web", {51, 52}, id="another stack's service by its full name"),
        pytest.param("blog_web.1", {51}, id="another stack's slot by its full name"),
        pytest.param("db", {1, 2, 21}, id="an alias is everyone in the own stack who has it"),
        pytest.param("api", {21}, id="another service"),
        pytest.param("shopapi1ffff", {21}, id="a container's host name"),
        pytest.param("shopapi1" + "f" * 17, {21}, id="a task's id"),
        pytest.param("shop_api.1.shopapi1" + "f" * 17, {21}, id="a container's name"),
    ],
)
def test_names_that_are_known(name: str, last_bytes: set[int]) -> None:
    found = resolve(name, A, (SHOP,), "shop")
    assert found.verdict is Verdict.ANSWER
    assert {int(address.split(".")[-1]) for address in found.addresses} == last_bytes
    by_v6 = resolve(name, AAAA, (SHOP,), "shop")
    assert {int(address.split(":")[-1], 16) for address in by_v6.addresses} == last_bytes
    assert resolve(name, MX, (SHOP,), "shop") == Resolution(Verdict.ANSWER)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("nobody", UNKNOWN, id="a single label is never the outside's"),
        pytest.param("tasks.nobody", UNKNOWN, id="nor are tasks of an unknown service"),
        pytest.param("web.17", UNKNOWN, id="nor is a slot of a known service"),
        pytest.param("", UNKNOWN, id="nor is the root"),
        pytest.param("example.org", ELSEWHERE, id="a domain is"),
        pytest.param("web.example.org", ELSEWHERE, id="a service's name in a domain is"),
        pytest.param("nobody.17", ELSEWHERE, id="a number behind an unknown name is"),
    ],
)
def test_names_that_are_not_known(name: str, expected: Resolution) -> None:
    assert resolve(name, A, (SHOP,), "shop") == expected


@pytest.mark.parametrize(
    ("stack", "last_bytes"),
    [
        pytest.param("shop", {"1", "2"}, id="the own stack's"),
        pytest.param("blog", {"51", "52"}, id="the other's own"),
        pytest.param("third", {"1", "2", "51", "52"}, id="everyone's, for one who has none of that name"),
    ],
)
def test_on_a_shared_network_the_own_stack_comes_first(stack: str, last_bytes: set[str]) -> None:
    found = resolve("web", A, (SHOP,), stack)
    assert {address.split(".")[-1] for address in found.addresses} == last_bytes


@pytest.mark.parametrize(
    ("networks", "name", "expected"),
    [
        pytest.param((OTHER, SHOP), "web", ("10.1.0.9",), id="the first network wins"),
        pytest.param((IDLE, OTHER), "web", ("10.1.0.9",), id="unless nobody is ready there"),
        pytest.param((IDLE,), "web", (), id="known and nobody ready: an empty answer"),
        pytest.param((SHOP, OTHER), "mail", ("10.1.0.28",), id="a name of a later network is found"),
        pytest.param((BLOG, OTHER), "web", ("10.1.0.9",), id="the own stack's in a later network comes first"),
        pytest.param((BLOG, IDLE), "web", (), id="also when nobody of it is ready: no stranger stands in"),
        pytest.param((BLOG,), "web", ("10.1.0.51",), id="another stack's is found where the own has none"),
    ],
)
def test_several_networks(networks: tuple[NetworkNames, ...], name: str, expected: tuple[str, ...]) -> None:
    found = resolve(name, A, networks, "shop")
    assert found == Resolution(Verdict.ANSWER, expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        pytest.param("2.0.1.10.in-addr.arpa", Resolution(Verdict.ANSWER, pointer="shop_web.2"), id="a task's address"),
        pytest.param("99.0.1.10.in-addr.arpa", UNKNOWN, id="nobody's address in the network"),
        pytest.param("11.0.0.127.in-addr.arpa", UNKNOWN, id="loopback"),
        pytest.param("1.1.168.192.in-addr.arpa", ELSEWHERE, id="an address of elsewhere"),
        pytest.param("in-addr.arpa", ELSEWHERE, id="no address"),
        pytest.param(
            ipaddress.ip_address("fd00::2").reverse_pointer, Resolution(Verdict.ANSWER, pointer="shop_web.2"),
            id="a task's IPv6 address",
        ),
    ],
)  # fmt: skip
def test_reverse_names(name: str, expected: Resolution) -> None:
    assert resolve(name, PTR, (SHOP,), "shop") == expected


EVERYWHERE = tuple(
    replace(peer(n, "log"), place=place, hostname=hostname)
    for n, place, hostname in ((1, "alpha", "one.log"), (2, "b.example.org", "api"))
)
STRANGER = replace(peer(1, "api", "blog"), hostname="one.log")


@pytest.mark.parametrize(
    ("peers", "name", "last_bytes"),
    [
        pytest.param(EVERYWHERE, "log.alpha", {21}, id="a global service's task by its node"),
        pytest.param(EVERYWHERE, "shop_log.b.example.org", {22}, id="also by the full name, on a node of many words"),
        pytest.param(EVERYWHERE, "tasks.log", {21, 22}, id="all tasks of it"),
        pytest.param(EVERYWHERE, "one.log", {21}, id="what a container was told to call itself"),
        pytest.param(EVERYWHERE, "api", {22}, id="the same without a dot"),
        pytest.param((*EVERYWHERE, peer(3, "api")), "api", {23}, id="which gives way to a service"),
        pytest.param((*EVERYWHERE, peer(3, "api", "blog")), "api", {22}, id="but not to another stack's"),
        pytest.param((*EVERYWHERE, STRANGER), "one.log", {21}, id="and comes before another stack's"),
        pytest.param((STRANGER,), "one.log", {71}, id="which is found where the own has none"),
    ],
)
def test_names_of_nodes_and_chosen_host_names(peers: tuple[PeerItem, ...], name: str, last_bytes: set[int]) -> None:
    found = resolve(name, A, (network(*peers),), "shop")
    assert {int(address.split(".")[-1]) for address in found.addresses} == last_bytes


def test_a_task_of_a_global_service_is_told_by_its_node() -> None:
    assert resolve("21.0.1.10.in-addr.arpa", PTR, (network(*EVERYWHERE),), "shop").pointer == "shop_log.alpha"


peers = st.builds(
    peer, st.integers(1, 9), st.sampled_from(["web", "api"]), st.sampled_from(["shop", "blog"]), ready=st.booleans(),
    alias=st.sampled_from(["db", "cache", "web"]),
)  # fmt: skip
sets = st.lists(peers, max_size=8).map(lambda found: {peer.owner: peer for peer in found})


def virtual(service: str = "web", stack: str = "shop", alias: str = "db") -> VipItem:
    last = 200 + (stack != "shop") + 2 * (service != "web")
    return VipItem("net", service, stack, service, (f"10.1.0.{last}", f"fd00::{last}"), (service, alias))


VIRTUAL = NetworkNames(("10.1.0.0/16", "fd00::/64"))
VIRTUAL.apply(
    {p.owner: p for p in (peer(1), peer(2, ready=False), peer(1, "api"), peer(1, "mail", "blog", ready=False))},
    {"web": virtual(), "mail": virtual("mail", "blog", "post")},
)


@pytest.mark.parametrize(
    ("name", "addresses", "is_virtual"),
    [
        pytest.param("web", {"10.1.0.200"}, True, id="a service is its virtual address"),
        pytest.param("shop_web", {"10.1.0.200"}, True, id="with the stack's name before it"),
        pytest.param("tasks.web", {"10.1.0.1"}, False, id="its tasks are the ready ones"),
        pytest.param("web.1", {"10.1.0.1"}, False, id="one slot"),
        pytest.param("db", {"10.1.0.200", "10.1.0.21"}, False, id="an alias of a virtual and of another service"),
        pytest.param("api", {"10.1.0.21"}, False, id="a service without one"),
        pytest.param("mail", {"10.1.0.203"}, True, id="without a ready task it stays and refuses"),
        pytest.param("post", {"10.1.0.203"}, True, id="an alias of it"),
        pytest.param("shopweb1ffff", {"10.1.0.1"}, False, id="a container's host name"),
    ],
)
def test_names_of_services_with_a_virtual_address(name: str, addresses: set[str], is_virtual: bool) -> None:
    found = resolve(name, A, (VIRTUAL,), "shop")
    assert (found.verdict, set(found.addresses), found.virtual) == (Verdict.ANSWER, addresses, is_virtual)


def test_of_two_networks_the_one_where_somebody_answers_wins() -> None:
    idle = NetworkNames(())
    idle.apply({"p": peer(3, ready=False)}, {"web": virtual(stack="blog")})
    assert resolve("web", A, (idle, VIRTUAL), "shop").addresses == ("10.1.0.200",)
    assert resolve("web", A, (idle,), "shop").addresses == ("10.1.0.201",)


def test_a_virtual_address_is_told_by_its_services_name_and_goes_with_it() -> None:
    names = NetworkNames(("10.1.0.0/16",))
    names.apply({}, {"web": virtual()})
    assert resolve("200.0.1.10.in-addr.arpa", PTR, (names,), "shop").pointer == "shop_web"
    names.apply({}, {})
    assert resolve("200.0.1.10.in-addr.arpa", PTR, (names,), "shop") == UNKNOWN
    assert names.find("web", "shop") is None


@given(st.lists(sets, max_size=5))
def test_coming_step_by_step_is_the_same_as_beginning_there(steps: list[dict[str, PeerItem]]) -> None:
    walked = network()
    for step in steps:
        walked.apply(step)
    fresh = network(*(steps[-1].values() if steps else ()))
    for name in ("web", "db", "cache", "tasks.api", "web.1", "shop_web.2", "nobody"):
        for stack in ("shop", "blog", "third"):
            one, two = walked.find(name, stack), fresh.find(name, stack)
            assert (one is None) == (two is None)
            if one is not None and two is not None:
                assert (sorted(one.addresses), one.ready) == (sorted(two.addresses), two.ready)
    assert walked.name_of("10.1.0.1") == fresh.name_of("10.1.0.1")
