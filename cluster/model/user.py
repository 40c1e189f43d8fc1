"""People and programs that work on the cluster: what each may do, and with what they prove who they are."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal

UserRole = Literal["viewer", "deployer", "operator", "admin"]
"""Each may all that those before it may: see manager/api/rules.py."""


@dataclass(frozen=True, slots=True)
class Credential:
    """A token or a client certificate. `digest` is the SHA-256 (hex) of a token's secret, "" of a certificate.

    `expires_at` is cluster time, None for never. `signer` is the digest of the root that has signed a certificate, ""
    where that was before the CA was rotated first.
    """

    id: str
    kind: Literal["token", "certificate"]
    created_at: float
    expires_at: float | None = None
    digest: str = ""
    signer: str = ""

    def is_good(self, now: float) -> bool:
        return self.expires_at is None or now < self.expires_at


@dataclass(frozen=True, slots=True)
class User:
    """Viewers and deployers are kept to the stacks that `stacks` (patterns with *) name; the other roles have all.

    A `privileged` deployer may also deploy what gets hold of a host: see manager/api/privileges.py.
    """

    name: str
    role: UserRole
    created_at: float
    author: str
    stacks: tuple[str, ...] = ()
    privileged: bool = False
    credentials: tuple[Credential, ...] = ()


def names_stack(patterns: tuple[str, ...], stack: str) -> bool:
    """Tell whether one of the patterns names a stack."""
    return any(fnmatchcase(stack, pattern) for pattern in patterns)
