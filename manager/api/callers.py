"""Who is asking, and what for: worked out for each request, from the socket, the certificate or a token.

The caller is the first parameter of each route, the manager's core the second: dependencies are worked out in that
order, and nothing of a request is to be read before it is known that the caller may make it. `rules` says who may.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from cluster.errors import Forbidden
from cluster.model.user import UserRole, names_stack
from cluster.pki import identity

SCOPE_KEY = "stackyard.caller"
"""Where the server puts the caller in the scope of each request of a connection."""

USER = "user"
"""The role in a user's certificate, which names a credential: what its holder may do is in the user's record."""


class CallerKind(StrEnum):
    LOCAL = "local"  # root on this manager's host, by the UNIX socket
    CLIENT = "client"  # a person or program with a token or a client certificate
    NODE = "node"  # an agent
    MANAGER = "manager"  # another manager
    ANONYMOUS = "anonymous"  # neither a certificate nor a token


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever is at the other end; `name` is a node's id, a user's or manager's name, "" for the anonymous.

    `stacks` (patterns) and `privileged` are of those who are kept to some stacks: see User. `credential` is that with
    which a user asks; of a connection that nobody looked up yet, it is all that is known.
    """

    kind: CallerKind
    name: str = ""
    role: UserRole | None = None
    stacks: tuple[str, ...] = ()
    privileged: bool = False
    credential: str = ""

    @property
    def author(self) -> str:
        """What a revision says of who made it."""
        return "root" if self.kind is CallerKind.LOCAL else self.name

    @property
    def is_kept(self) -> bool:
        """Tell whether this caller is kept to some stacks."""
        return self.role in ("viewer", "deployer")

    def sees(self, stack: str) -> bool:
        """Tell whether a stack of that name is this caller's affair."""
        return not self.is_kept or names_stack(self.stacks, stack)

    def __str__(self) -> str:
        return f"{self.kind} {self.name}".strip()


LOCAL = Caller(CallerKind.LOCAL, "root", "admin")
ANONYMOUS = Caller(CallerKind.ANONYMOUS)


def of_certificate(cluster: str, certificate: bytes | None) -> Caller:
    """Tell who holds a certificate (DER) that TLS has verified already; None is nobody known.

    Clients' certificates of role admin are from before there were users: root made them, and they end 90 days later.
    """
    if certificate is None:
        return ANONYMOUS
    try:
        who = identity(certificate)
    except Forbidden:
        return ANONYMOUS
    if who.cluster != cluster:
        return ANONYMOUS
    if who.kind != "client":
        return Caller(CallerKind(who.kind), who.name)
    if who.role == USER:
        return Caller(CallerKind.CLIENT, credential=who.name)
    return Caller(CallerKind.CLIENT, who.name, "admin") if who.role == "admin" else ANONYMOUS
