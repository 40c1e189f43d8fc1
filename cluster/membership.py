"""What the manager's API takes and answers about becoming and staying a member: tokens, joining, certificates."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cluster.model.node import Role


@dataclass(frozen=True, slots=True)
class JoinTokens:
    worker: str
    manager: str


@dataclass(frozen=True, slots=True)
class TokenView:
    """A join token without its secret: a role's standing one, or an invitation, which may end or be for one node.

    Instants are cluster time; `used_by` is the id of the node that has used up one for a single node; `outdated` is one
    that names a root of the CA which signs no more.
    """

    id: str
    role: Role
    standing: bool
    created_at: float | None = None
    expires_at: float | None = None
    once: bool = False
    used_by: str = ""
    expired: bool = False
    outdated: bool = False


@dataclass(frozen=True, slots=True)
class NewToken:
    """The body of POST /v1/tokens: `expires_in` is in seconds, None for never; `once`: good for a single node."""

    role: Role = "worker"
    expires_in: float | None = None
    once: bool = False


@dataclass(frozen=True, slots=True)
class TokenReply:
    """A token's whole text. That of an invitation is shown this once."""

    id: str
    token: str


@dataclass(frozen=True, slots=True)
class JoinRequest:
    """A new node asks for its certificate: `csr` is PEM; the role follows from the token.

    With `role` a token that gives another one is refused before anything is done.
    """

    token: str
    csr: str
    name: str
    role: Role | None = None


@dataclass(frozen=True, slots=True)
class JoinReply:
    """`certificate` and `ca` are PEM; `node` is the id that the certificate carries, `life` the cluster's."""

    node: str
    cluster: str
    role: Role
    certificate: str
    ca: str
    life: str = ""


@dataclass(frozen=True, slots=True)
class NewMember:
    """A node asks for its etcd to be taken in: `peer` is the URL at which the other members will reach it."""

    peer: str


@dataclass(frozen=True, slots=True)
class MemberReply:
    """What another manager's etcd begins with: the CA of etcd's members (PEM) and its key, `members` (URL to name) and
    the endpoints for managers. With `etcd` it needs none: those are the endpoints of one that somebody else runs."""

    ca: str = ""
    key: str = field(default="", repr=False)
    members: dict[str, str] = field(default_factory=dict)
    endpoints: tuple[str, ...] = ()
    etcd: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class RenewalRequest:
    """A node asks for its next certificate, with the one that it has; `csr` is PEM. Answered with CertificateReply."""

    csr: str


ClientRole = Literal["admin"]


@dataclass(frozen=True, slots=True)
class CertificateRequest:
    """Asks for a client certificate for a person or a program called `name`; `csr` is PEM."""

    csr: str
    name: str
    role: ClientRole = "admin"


@dataclass(frozen=True, slots=True)
class CertificateReply:
    certificate: str
    ca: str
