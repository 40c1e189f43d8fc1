"""Unlock keys: with one, the managers' file of the keys to secrets is locked, and only people keep it.

A person's command makes it, and shows it before any manager depends on it: whatever fails then, somebody has the key.
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field

from cluster.errors import UserError

_KEY = re.compile(r"SYUNLOCK-1-(?P<secret>[0-9a-f]{64})")


@dataclass(frozen=True, slots=True)
class UnlockKey:
    """The body of PUT /v1/unlock-key and POST /v1/unlock, and what GET /v1/unlock-key answers: "" for none."""

    key: str = field(repr=False)


def new_unlock_key() -> str:
    return f"SYUNLOCK-1-{secrets.token_hex(32)}"


def parse_unlock_key(text: str) -> str:
    """Read an unlock key as a person pasted it. Raises UserError when it is none."""
    match = _KEY.fullmatch(text.strip())
    if match is None:
        raise UserError(
            "that is no unlock key: it should look like SYUNLOCK-1-<64 hex digits>",
            hint="Copy the whole key; on a manager that is not locked, `stack unlock-key` shows it.",
        )
    return match[0]


def unlock_secret(key: str) -> bytes:
    """Give the 256 bits of a key that was parsed."""
    return bytes.fromhex(key.rpartition("-")[2])


def unlock_id(key: str) -> str:
    """Name a key by 8 hex digits that tell nothing of it; "" for none."""
    return hashlib.sha256(b"unlock-key/1/" + unlock_secret(key)).hexdigest()[:8] if key else ""
