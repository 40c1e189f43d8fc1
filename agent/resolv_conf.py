"""The node's resolv.conf(5), and a container's, where what its service leaves open is as on its node. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ResolvConf:
    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


def parse(text: str) -> ResolvConf:
    """Read as the C library does: the last `search` or `domain` counts, all options do."""
    servers: list[str] = []
    search: tuple[str, ...] = ()
    options: list[str] = []
    for line in text.splitlines():
        match line.split():
            case ["nameserver", server, *_]:
                servers.append(server)
            case ["search" | "domain", *domains]:
                search = tuple(domains)
            case ["options", *words]:
                options += words
    return ResolvConf(tuple(servers), search, tuple(options))


def for_container(resolver: str, node: ResolvConf, search: Sequence[str], options: Sequence[str]) -> str:
    """Write what a container asks by, with what its service says in place of what its node does; "." searches nowhere.

    Names without a dot are those of services more often than not, so they are asked for as they are first, unless it
    is said otherwise (Docker's rule).
    """
    domains = [domain for domain in search or node.search if domain != "."]
    words = [*(options or node.options)]
    if not any(word.startswith("ndots:") for word in words):
        words.append("ndots:0")
    return "".join(_lines(resolver, domains, words))


def _lines(resolver: str, domains: Sequence[str], options: Sequence[str]) -> Iterable[str]:
    yield f"nameserver {resolver}\n"
    if domains:
        yield f"search {' '.join(domains)}\n"
    yield f"options {' '.join(options)}\n"
