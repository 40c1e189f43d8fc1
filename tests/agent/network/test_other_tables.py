"""Beside a host's own nftables rules, which drop what they do not know."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from agent.network.wiring import Wiring
from tests.agent.network.test_watch import mended, watching
from tests.agent.network.test_wiring import ask, serving
from tests.agent.network.underlay import FRONT, INGRESS_NETWORK, SUBNET, Cluster, host, inside, namespace, run

pytestmark = pytest.mark.root

Wirings = dict[str, Wiring]

BY_HAND = """
table inet filter {
    chain input {
        type filter hook input priority filter; policy drop;
        ct state established,related accept
        iif lo accept
        udp dport 4789 accept
    }
    chain forward { type filter hook forward priority filter; policy drop; }
}
"""
FIREWALLD = """
table inet firewalld {
    chain filter_INPUT {
        type filter hook input priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_INPUT_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_ZONES
        reject with icmpx admin-prohibited
    }
    chain filter_INPUT_ZONES {
        udp dport 4789 accept
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_ZONES { goto filter_FWD_public; }
    chain filter_FWD_public { reject with icmpx admin-prohibited; }
}
"""
"""What firewalld 1.3 makes of its public zone with the one port open, but for chains that do nothing here."""

OPEN = """
table inet other {
    chain seen { type filter hook forward priority filter; policy accept; counter; }
}
"""


def load(where: Path, rules: str) -> None:
    # nft takes "{ a; b; }" over several lines only
    lines = rules.replace("{ type", "{\ntype").replace("; }", ";\n}").replace("{ goto", "{\ngoto")
    lines = lines.replace("{ reject", "{\nreject").replace("; policy", "; policy")
    subprocess.run(["nsenter", f"--net={where}", "nft", "-f", "-"], input=lines, text=True, check=True)


@contextmanager
def owning(commands: str) -> Iterator[subprocess.Popen[str]]:
    """Have a program that keeps what it loads for itself."""
    command = ["setpriv", "--pdeathsig", "KILL", "nsenter", f"--net={host('h1')}", "nft", "-i"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as owner:
        try:
            assert owner.stdin is not None
            owner.stdin.write(commands)
            owner.stdin.flush()
            yield owner
        finally:
            owner.kill()


def listed(where: Path) -> str:
    return inside(where, "nft", "list", "ruleset")


@pytest.mark.parametrize("rules", [BY_HAND, FIREWALLD])
async def test_containers_and_published_ports_get_through_and_only_for_as_long_as_needed(
    wirings: Wirings, rules: str
) -> None:
    for name in ("h1", "h2"):
        load(host(name), rules)
    before = listed(host("h1"))
    cluster = Cluster()
    one, two = cluster.task(1, "h1", FRONT, INGRESS_NETWORK), cluster.task(2, "h2", FRONT)
    cluster.publish(8080, 80)
    await cluster.start(wirings)
    paths = wirings["h1"].namespace(one), wirings["h2"].namespace(two)
    with serving(host("client"), 80, "outside"), serving(paths[0], 80, "one"):
        assert ask(paths[0], f"{SUBNET}.4", 80) == f"outside {SUBNET}.1"
        assert ask(paths[1], "10.101.1.1", 80) == "one 10.101.1.2"
        assert ask(host("client"), f"{SUBNET}.2", 8080) == f"one {SUBNET}.4"
        run("ip", "-n", namespace("client"), "route", "add", "10.101.0.0/16", "via", f"{SUBNET}.1")
        assert ask(host("client"), "10.101.1.1", 80) in ("nothing", "refused"), (
            "what else is let through is in our own table"
        )
    assert wirings["h1"].trouble == ""
    for task, name in ((one, "h1"), (two, "h2")):
        await wirings[name].delete_sandbox(task)
        await wirings[name].apply([])
        await wirings[name].clean((), ())
    left = [line for line in listed(host("h1")).splitlines() if line not in before.splitlines()]
    assert not any("sy-" in line for line in left), left


async def test_a_firewall_that_is_loaded_anew_is_seen_to_at_once(wirings: Wirings) -> None:
    load(host("h1"), FIREWALLD)
    cluster = Cluster()
    one = cluster.task(1, "h1", FRONT)
    await cluster.start(wirings)
    with serving(host("client"), 80, "outside"):
        async with watching(wirings["h1"]):
            for rules in (FIREWALLD, BY_HAND):
                inside(host("h1"), "nft", "delete", "table", "inet", "firewalld")
                load(host("h1"), rules)
                outside = f"outside {SUBNET}.1"
                await mended(outside, lambda: ask(wirings["h1"].namespace(one), f"{SUBNET}.4", 80), "reload")
        assert inside(host("h1"), "nft", "list", "chain", "inet", "filter", "forward").count('"stackyard sy-*"') == 2


async def test_chains_that_drop_nothing_are_left_alone(wirings: Wirings) -> None:
    load(host("h1"), OPEN)
    cluster = Cluster()
    cluster.task(1, "h1", FRONT)
    await cluster.start(wirings)
    assert "stackyard" not in inside(host("h1"), "nft", "list", "table", "inet", "other")


async def test_a_table_that_takes_no_rules_of_others_is_told_with_what_to_do(wirings: Wirings) -> None:
    """firewalld owns its table from release 2.1 on, and then the kernel lets nobody else change it."""
    owned = "add table inet firewalld { flags owner; }\n"
    chain = "add chain inet firewalld filter_FORWARD { type filter hook forward priority 10; policy drop; }\n"
    with owning(owned + chain) as owner:
        await mended(True, lambda: "filter_FORWARD" in listed(host("h1")), "the owner")
        cluster = Cluster()
        cluster.task(1, "h1", FRONT)
        await cluster.start(wirings)
        trouble = wirings["h1"].trouble
        assert "inet firewalld" in trouble and "firewall-cmd" in trouble
        owner.communicate("quit\n", timeout=30)
    await wirings["h1"].audit()
    assert wirings["h1"].trouble == "", "its table went with it"
