"""Who is asking: worked out once a connection, from the socket or from the certificate, and checked by every route.

The caller is the first parameter of each route, the manager's core the second: dependencies are worked out in that
order, and nothing of a request is to be read before it is known that the caller may make it. They are coroutines:
others would cost a thread each.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from cluster.errors import Forbidden
from cluster.pki import identity

SCOPE_KEY = "stackyard.caller"
"""Where the server puts the caller in the scope of each request of a connection."""


class CallerKind(StrEnum):
    LOCAL = "local"  # root on this manager's host, by the UNIX socket
    CLIENT = "client"  # a person or program with a client certificate
    NODE = "node"  # an agent
    MANAGER = "manager"  # another manager
    ANONYMOUS = "anonymous"  # no certificate


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever is at the other end; `name` is a node's id, a client's or manager's name, "" for the anonymous."""

    kind: CallerKind
    name: str = ""
    role: str = ""

    @property
    def author(self) -> str:
        """What a revision says of who made it."""
        return "root" if self.kind is CallerKind.LOCAL else self.name

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


LOCAL = Caller(CallerKind.LOCAL, "root", "admin")
ANONYMOUS = Caller(CallerKind.ANONYMOUS)


def of_certificate(cluster: str, certificate: bytes | None) -> Caller:
    """Tell who holds a certificate (DER) that TLS has verified already; None is nobody known."""
    if certificate is None:
        return ANONYMOUS
    try:
        who = identity(certificate)
    except Forbidden:
        return ANONYMOUS
    return Caller(CallerKind(who.kind), who.name, who.role) if who.cluster == cluster else ANONYMOUS


async def caller_of(connection: HTTPConnection) -> Caller:
    caller = connection.scope.get(SCOPE_KEY, ANONYMOUS)
    assert isinstance(caller, Caller)
    return caller


def _only(*kinds: CallerKind, hint: str) -> Callable[[HTTPConnection], Awaitable[Caller]]:
    async def check(connection: HTTPConnection) -> Caller:
        caller = await caller_of(connection)
        if caller.kind not in kinds:
            raise Forbidden(f"{connection.url.path} is not for {_a(caller)}", hint=hint)
        return caller

    return check


def _a(caller: Caller) -> str:
    return (
        "a caller without a certificate" if caller.kind is CallerKind.ANONYMOUS else f"a {caller.kind} ({caller.name})"
    )


Anyone = Annotated[Caller, Depends(caller_of)]
Operator = Annotated[
    Caller,
    Depends(
        _only(
            CallerKind.LOCAL,
            CallerKind.CLIENT,
            hint="Use a client certificate of this cluster, or the manager's UNIX socket as root.",
        )
    ),
]
OtherManager = Annotated[Caller, Depends(_only(CallerKind.MANAGER, hint="Only managers ask one another this."))]
LocalRoot = Annotated[
    Caller, Depends(_only(CallerKind.LOCAL, hint="Ask on a manager's own host, as root, by its UNIX socket."))
]
Agent = Annotated[Caller, Depends(_only(CallerKind.NODE, hint="Only agents with a node's certificate come here."))]
