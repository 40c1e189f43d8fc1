"""What a host must be to become a member of a cluster. Each refusal names the reason and the remedy."""

from __future__ import annotations

import ipaddress
import os
import re
import shutil
import socket
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cluster.engine import refusals
from cluster.errors import Conflict, Failed, Forbidden, UserError
from cluster.etcd import refusal

OLDEST_ENGINE = (20, 10)
PORT = 2377

_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{0,62}")


def root_on_linux() -> None:
    if not sys.platform.startswith("linux"):
        raise Failed(
            "only a Linux host can be a member of a cluster",
            hint="On this machine `stack` can be used to talk to one: copy a context from a manager's host.",
        )
    if os.geteuid() != 0:
        raise Forbidden("only root can make this host a member of a cluster, or take it out", hint="Use sudo.")


def programs() -> Path:
    """Where `stack-manager` and `stack-agent` are: beside this command."""
    found = Path(sys.prefix) / "bin"
    for name in ("stack-manager", "stack-agent"):
        if not os.access(found / name, os.X_OK):
            raise Failed(f"{found / name} is missing: this is no whole installation", hint="Install stackyard anew.")
    return found


def engine(info: Mapping[str, Any]) -> None:
    """Refuse an engine whose containers cannot be put into networks of this cluster."""
    for reason in refusals(info).values():
        raise Forbidden(reason)
    version = str(info.get("ServerVersion", ""))
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if info.get("OSType", "linux") != "linux" or (numbers and (int(numbers[1]), int(numbers[2])) < OLDEST_ENGINE):
        raise Forbidden(f"the Docker Engine {version} is too old: 20.10 is the first that will do", hint="Upgrade it.")
    if (info.get("Swarm") or {}).get("LocalNodeState", "inactive") not in ("inactive", ""):
        raise Conflict(
            "the Docker Engine is a member of a swarm, which uses the same ports (2377, 4789) as a cluster",
            hint="Take it out first: docker swarm leave --force",
        )


def tools() -> None:
    """Refuse a host without the libraries that the agent calls."""
    import ctypes.util

    if ctypes.util.find_library("nftables") is None:
        raise Failed(
            "libnftables is not on this host; the agent makes services' addresses with it",
            hint="Debian: apt-get install libnftables1",
        )


def own_etcd() -> None:
    """Refuse a host without an etcd to start, or with one that is too old or loses data."""
    import subprocess

    binary = shutil.which("etcd")
    if binary is None:
        raise Failed(
            "there is no etcd on this host's PATH",
            hint="Install it (Debian: apt-get install etcd-server), or give the URLs of one that runs with --etcd.",
        )
    done = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False, timeout=10)
    version = re.search(r"etcd Version: (\S+)", done.stdout)
    if version and (refused := refusal(version[1])) is not None:
        reason, remedy = refused
        raise Failed(f"{binary} has {reason}", hint=remedy)


def name(text: str) -> str:
    if _NAME.fullmatch(text) is None:
        raise UserError(
            f"{text!r} is no name for a node",
            hint="Give one with --name: up to 63 letters, digits, dots, - and _, a letter or digit first.",
        )
    return text


def manager_url(text: str) -> str:
    """Read a manager's address as people write it: a URL, or HOST with or without PORT."""
    bare = text.strip().removeprefix("https://").rstrip("/")
    host, port = bare, str(PORT)
    if bracketed := re.fullmatch(r"\[([0-9a-fA-F:]+)\](?::(\d+))?", bare):
        host, port = bracketed[1], bracketed[2] or port
    elif bare.count(":") == 1:
        host, _, port = bare.partition(":")
    if not re.fullmatch(r"[0-9a-zA-Z._:-]+", host) or not port.isdigit() or not 0 < int(port) < 65536:
        raise UserError(
            f"{text!r} is no address of a manager", hint=f"Give HOST or HOST:PORT, such as 192.0.2.1:{PORT}."
        )
    return f"https://[{host}]:{port}" if ":" in host else f"https://{host}:{port}"


def address(given: str | None, *towards: str) -> str:
    """The address under which the other nodes reach this host: `given`, or that of the way to the first of `towards`
    that there is a way to.
    """
    if given is None:
        return _towards(*towards)
    try:
        wanted = ipaddress.ip_address(given)
    except ValueError as error:
        raise UserError(f"--advertise: {given!r} is no address", hint="Give an address of this host.") from error
    with socket.socket(_family(given), socket.SOCK_DGRAM) as probe:
        try:
            probe.bind((given, 0))
        except OSError as error:
            raise UserError(
                f"--advertise: {given} is no address of this host ({error.strerror})",
                hint="Give one that an interface of this host has: `ip address` shows them.",
            ) from error
    if wanted.is_unspecified or wanted.is_loopback:
        raise UserError(f"--advertise: nobody else can reach this host at {given}")
    return str(wanted)  # of the spellings of an IPv6 address the one that the kernel has


def _towards(*places: str) -> str:
    trouble: OSError | None = None
    for place in places:
        try:
            with socket.socket(_family(place), socket.SOCK_DGRAM) as probe:
                probe.connect((place, PORT))  # nothing is sent
                return str(probe.getsockname()[0])
        except OSError as error:
            trouble = trouble or error
    raise UserError(
        f"which address of this host the others can reach is not to be seen: {trouble}",
        hint="Give it with --advertise.",
    ) from trouble


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET
