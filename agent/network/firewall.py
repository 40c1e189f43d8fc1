"""Lets published ports through a host firewall that drops what is forwarded, as Docker's does.

An accept in a table of ours does not undo a drop in another, so the rule must stand in the table that drops. It is put
there with the same `iptables` that the engine uses, be it the nftables or the legacy kind, into the chain that the
engine leaves to others and keeps over its own restarts. What may be forwarded at all is decided in our own table.
"""

from __future__ import annotations

import logging
import shutil
import subprocess

log = logging.getLogger(__name__)

_TIMEOUT = 20.0


def let_through(link: str) -> None:
    """Make sure that what is forwarded to and from the link is accepted, also by an engine that starts later."""
    for command in ("iptables", "ip6tables"):
        if (path := shutil.which(command)) is None:
            continue
        lines = _run(path, "-S").splitlines()
        chain = "DOCKER-USER" if "-N DOCKER-USER" in lines else "FORWARD"
        for rule in _accepting(link):
            if f"-A {chain} {rule}" not in lines:
                log.info("letting published ports through: %s -I %s %s", command, chain, rule)
                _run(path, "-I", chain, *rule.split())


def stop_letting_through(link: str) -> None:
    """Take the rules out again, wherever they stand."""
    for command in ("iptables", "ip6tables"):
        if (path := shutil.which(command)) is None:
            continue
        for line in _run(path, "-S").splitlines():
            verb, _, rest = line.partition(" ")
            _, _, rule = rest.partition(" ")
            if verb == "-A" and rule in _accepting(link):
                _run(path, "-D", *rest.split())


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
