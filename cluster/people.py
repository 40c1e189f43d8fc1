"""What the manager's API takes and answers about people: users, their credentials, what was done by whom."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Literal

from cluster.errors import UserError
from cluster.model.user import UserRole

_TOKEN = re.compile(r"SYUSR-1-(?P<digest>[0-9a-f]{64})-(?P<credential>[0-9a-f]{12})-(?P<secret>[0-9a-z]{32})")


def root_of(host: str) -> str:
    """Name the user that root of a manager's host is by the context that `stack init` writes there."""
    return f"root-{host}"


@dataclass(frozen=True, slots=True)
class UserToken:
    """What a user's token says: the SHA-256 (hex) of the CA's certificate, the id of the credential, its secret."""

    ca_digest: str
    credential: str
    secret: str = field(repr=False)

    def __str__(self) -> str:
        return f"SYUSR-1-{self.ca_digest}-{self.credential}-{self.secret}"


def parse_user_token(text: str) -> UserToken:
    """Read a user's token as a person pasted it. Raises UserError when it is none."""
    match = _TOKEN.fullmatch(text.strip())
    if match is None:
        raise UserError(
            "that is no user's token: it should look like SYUSR-1-<64 hex digits>-<12 hex digits>-<32 characters>",
            hint="Copy the whole token; `stack user token NAME` makes another one.",
        )
    return UserToken(match["digest"], match["credential"], match["secret"])


@dataclass(frozen=True, slots=True)
class CredentialView:
    """A token or certificate without its secret. Instants are cluster time."""

    id: str
    kind: Literal["token", "certificate"]
    created_at: float
    expires_at: float | None = None
    expired: bool = False


@dataclass(frozen=True, slots=True)
class UserView:
    name: str
    role: UserRole
    stacks: tuple[str, ...]
    privileged: bool
    created_at: float
    author: str
    credentials: tuple[CredentialView, ...] = ()


@dataclass(frozen=True, slots=True)
class SelfView:
    """Who the caller is to the manager. `credential` is that with which it asked, "" by the UNIX socket."""

    name: str
    kind: str
    role: str
    stacks: tuple[str, ...] = ()
    privileged: bool = False
    credential: str = ""
    expires_at: float | None = None


@dataclass(frozen=True, slots=True)
class NewUser:
    """The body of POST /v1/users: `stacks` are patterns with *; the token ends after `expires_in` seconds, or never."""

    name: str
    role: UserRole
    stacks: tuple[str, ...] = ()
    privileged: bool = False
    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class UserChange:
    """The body of PATCH /v1/users/{name}: what is None stays as it is."""

    role: UserRole | None = None
    stacks: tuple[str, ...] | None = None
    privileged: bool | None = None


@dataclass(frozen=True, slots=True)
class NewUserToken:
    """The body of POST /v1/users/{name}/tokens."""

    expires_in: float | None = None


@dataclass(frozen=True, slots=True)
class NewUserCertificate:
    """The body of POST /v1/me/certificate: `csr` is PEM. Answered with CertificateReply.

    `again`: it is asked for with a certificate, and takes the place of that, until the same end.
    """

    csr: str
    again: bool = False


@dataclass(frozen=True, slots=True)
class UserTokenReply:
    """A token's whole text, shown this once."""

    user: UserView
    credential: str
    token: str


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One call that changed something, or was to. Instants are cluster time.

    `who` is a user's name, root, or a node's id, by its `kind`; `does` what was asked for, `about` what, which is a
    thing of the stack `stack` where there is one. `status` is that of HTTP (101: a stream was opened), `why` what a
    refused caller was told. `count` calls that were the same until `until` are one entry.
    """

    id: str
    at: float
    kind: str
    who: str
    does: str
    status: int
    about: str = ""
    stack: str = ""
    before: str = ""
    after: str = ""
    why: str = ""
    credential: str = ""
    address: str = ""
    count: int = 1
    until: float | None = None
