"""Lets what is forwarded to and from our links through a host firewall that drops it, as Docker's and firewalld's do.

An accept in a table of ours does not undo a drop in another, so the rule must stand in the table that drops. Into that
of iptables it is put with the same `iptables` that the engine uses, be it the nftables or the legacy kind, and into the
chain that the engine leaves to others and keeps over its own restarts. Into each other chain that drops what it does
not know, it is inserted at the top, and again when the firewall has been loaded anew. What may be forwarded at all is
decided in our own table. What comes in to the node itself is not touched: which ports are open to other hosts is for
whoever keeps the firewall to say.
"""

from __future__ import annotations

import logging
import re
import shutil
import subprocess
from collections.abc import Iterator

from agent.network.nft import Nftables
from cluster.errors import Failed

log = logging.getLogger(__name__)

_TIMEOUT = 20.0
_OURS = "stackyard"
_FORWARDING = re.compile(r"type filter hook forward priority [^;]*; policy (\w+);")
_ENDS = re.compile(r"^\s*(counter packets \d+ bytes \d+ )?(drop|reject\b.*?)( # handle \d+)?$")


class Firewall:
    """The host's own rules, of the namespace that `nft` was opened in. To be called there, by one thread at a time."""

    def __init__(self, nft: Nftables) -> None:
        self._nft = nft
        self._refused: dict[str, dict[str, str]] = {}  # by link and chain

    @property
    def trouble(self) -> str:
        """Tell what keeps traffic from being let through, and what to do; "" when nothing does."""
        return "; ".join(sorted({advice for chains in self._refused.values() for advice in chains.values()}))

    def let_through(self, link: str) -> None:
        """Make sure that what is forwarded to and from the link is accepted, also by a firewall that starts later."""
        for command in ("iptables", "ip6tables"):
            if (path := shutil.which(command)) is None:
                continue
            lines = _run(path, "-S").splitlines()
            chain = "DOCKER-USER" if "-N DOCKER-USER" in lines else "FORWARD"
            for rule in _accepting(link):
                if f"-A {chain} {rule}" not in lines:
                    log.info("letting published ports through: %s -I %s %s", command, chain, rule)
                    _run(path, "-I", chain, *rule.split())
        refused: dict[str, str] = {}
        for chain, listed in self._chains():
            missing = [rule for rule in _rules(link) if rule not in listed]
            if not missing or not _drops(listed):
                continue
            log.info("letting traffic of containers through the nftables chain %s", chain)
            try:
                self._nft.run("\n".join(f"insert rule {chain} {rule}" for rule in missing))
            except Failed as error:
                refused[chain] = _advice(chain)
                if chain not in self._refused.get(link, {}):
                    log.warning("%s: %s", refused[chain], error.message)
        self._refused[link] = refused

    def stop(self, link: str) -> None:
        """Take the rules out again, wherever they stand."""
        for command in ("iptables", "ip6tables"):
            if (path := shutil.which(command)) is None:
                continue
            for line in _run(path, "-S").splitlines():
                verb, _, rest = line.partition(" ")
                _, _, rule = rest.partition(" ")
                if verb == "-A" and rule in _accepting(link):
                    _run(path, "-D", *rest.split())
        for chain, listed in self._chains():
            own = [line for line in listed.splitlines() if any(rule in line for rule in _rules(link))]
            try:
                self._nft.run("\n".join(f"delete rule {chain} {line[line.rindex('handle') :]}" for line in own))
            except Failed as error:
                log.warning("a rule of ours stays in the nftables chain %s: %s", chain, error.message)
        self._refused.pop(link, None)

    def _chains(self) -> Iterator[tuple[str, str]]:
        """Give the chains of others that see what is forwarded, each with its rules; those of iptables have their way.

        What goes while it is looked at is passed over.
        """
        iptables = shutil.which("iptables") is not None
        try:
            lines = self._nft.run("list chains").splitlines()
        except Failed as error:
            log.warning("the host's nftables rules cannot be read: %s", error.message)
            return
        table = name = ""
        for line in lines:
            words = line.split()
            if words[:1] == ["table"]:
                table = f"{words[1]} {words[2]}"
            elif words[:1] == ["chain"]:
                name = words[1]
            elif _FORWARDING.search(line):
                family, called = table.split()
                if called.startswith(_OURS) or family not in ("ip", "ip6", "inet"):
                    continue
                if iptables and (family, called, name) in (("ip", "filter", "FORWARD"), ("ip6", "filter", "FORWARD")):
                    continue
                chain = f"{table} {name}"
                try:
                    yield chain, self._nft.run(f"list chain {chain}", handles=True)
                except Failed:
                    continue


def _rules(link: str) -> tuple[str, str]:
    told = f'accept comment "{_OURS} {link}"'
    return f'iifname "{link}" {told}', f'oifname "{link}" {told}'


def _drops(listed: str) -> bool:
    """Tell whether a chain lets nothing pass that none of its rules knows."""
    found = _FORWARDING.search(listed)
    if found is not None and found.group(1) == "drop":
        return True
    return any(_ENDS.match(line) for line in listed.splitlines())


def _advice(chain: str) -> str:
    family, table, _ = chain.split()
    how = "firewall-cmd --permanent --zone=trusted --add-interface=sy-+ && firewall-cmd --reload"
    if table != "firewalld":
        how = 'a rule in it: iifname "sy-*" accept, and one with oifname'
    return f"the nftables table {family} {table} drops what containers send and is closed to others; it takes {how}"


def _accepting(link: str) -> tuple[str, str]:
    name = link.replace("*", "+")
    return f"-i {name} -j ACCEPT", f"-o {name} -j ACCEPT"


def _run(path: str, *args: str) -> str:
    """Run it in the calling thread's network namespace. A refusal is logged: ports still answer where nothing drops."""
    try:
        done = subprocess.run(
            [path, "-w", "5", *args],
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        log.warning("published ports may be cut off by a firewall of this host: %s", error)
        return ""
    if done.returncode:
        log.warning("published ports may be cut off by a firewall of this host: %s: %s", path, done.stderr.strip())
    return done.stdout
