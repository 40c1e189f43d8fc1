"""Users: their records, and who a credential is. Pure but for the making of secrets."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import string
from dataclasses import replace

from cluster.errors import Conflict, UserError
from cluster.model.user import Credential, User, UserRole
from cluster.people import CredentialView, NewUser, UserChange, UserToken, UserView
from manager.picture import ClusterState

MOST_CREDENTIALS = 16
MOST_PATTERNS = 64
LONGEST = 10 * 365 * 86400.0
"""Seconds that a token may last if it is to end at all."""

_ALPHABET = string.digits + string.ascii_lowercase
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._@-]{0,62}")
_PATTERN = re.compile(r"[a-z0-9_*-]{1,63}")
_RESERVED = ("root",)


def holder(state: ClusterState, credential: str, now: float) -> tuple[User, Credential] | None:
    """Give whose credential it is, if it is good."""
    user = state.users.get(state.credentials.get(credential, ""))
    if user is None:
        return None
    found = next(one for one in user.credentials if one.id == credential)
    return (user, found) if found.is_good(now) else None


def is_right(credential: Credential, secret: str) -> bool:
    """Compare a token's secret in a time that tells nothing of where it differs."""
    return credential.kind == "token" and hmac.compare_digest(credential.digest, digest(secret))


def digest(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def new_user(request: NewUser, author: str, now: float) -> User:
    """Make a user without credentials. Raises UserError for what makes no sense."""
    check_name(request.name)
    user = User(request.name, request.role, now, author, _patterns(request.role, request.stacks), request.privileged)
    return _checked(user)


def changed(user: User, change: UserChange) -> User:
    """Raises UserError for what makes no sense."""
    role = change.role or user.role
    asked = user.stacks if change.stacks is None else change.stacks
    privileged = user.privileged if change.privileged is None else change.privileged
    if change.role not in (None, "deployer") and change.privileged is None:
        privileged = False
    if change.role in ("operator", "admin") and change.stacks is None:
        asked = ()
    return _checked(replace(user, role=role, stacks=_patterns(role, asked), privileged=privileged))


def with_token(user: User, ca_digest: str, now: float, expires_in: float | None) -> tuple[User, UserToken]:
    """Give a user one more token. Raises UserError for a time that is none, Conflict when there are too many."""
    if expires_in is not None and not 0 < expires_in <= LONGEST:
        raise UserError(f"a token cannot expire in {expires_in:g} s", hint="Give a time of up to ten years.")
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    expires_at = None if expires_in is None else now + expires_in
    made = Credential(_ident(), "token", now, expires_at, digest(secret))
    return _with(user, made, now), UserToken(ca_digest, made.id, secret)


def with_certificate(
    user: User, now: float, expires_at: float, signer: str, *, for_oldest: bool = False
) -> tuple[User, Credential]:
    """Give a user one more certificate, which is still to be signed.

    When there are too many it takes the place of the oldest credential, or else raises Conflict.
    """
    made = Credential(_ident(), "certificate", now, expires_at, signer=signer)
    if for_oldest and len(good := [one for one in user.credentials if one.is_good(now)]) >= MOST_CREDENTIALS:
        user = without(user, min(good, key=lambda one: one.created_at).id)
    return _with(user, made, now), made


def with_renewed(user: User, credential: str, signer: str) -> tuple[User, Credential]:
    """Have a certificate be of another root; it stays what it is in all else. Raises UserError for none."""
    found = next((one for one in user.credentials if one.id == credential and one.kind == "certificate"), None)
    if found is None:
        raise UserError("only with a certificate one can ask for another in its place")
    renewed = replace(found, signer=signer)
    return replace(user, credentials=tuple(renewed if one is found else one for one in user.credentials)), renewed


def without(user: User, credential: str | None) -> User:
    """Take one of a user's credentials away, or all."""
    left = tuple(one for one in user.credentials if credential not in (None, one.id))
    return replace(user, credentials=left)


def view(user: User, now: float) -> UserView:
    credentials = tuple(
        CredentialView(one.id, one.kind, one.created_at, one.expires_at, not one.is_good(now))
        for one in user.credentials
    )
    return UserView(user.name, user.role, user.stacks, user.privileged, user.created_at, user.author, credentials)


def words(user: User) -> str:
    """Say for the audit log what a user may do, and with what."""
    stacks = f" of {', '.join(user.stacks)}" if user.stacks else ""
    held = ", ".join(f"{one.kind} {one.id}" for one in user.credentials)
    return f"{'privileged ' if user.privileged else ''}{user.role}{stacks}; {held or 'no credential'}"


def check_name(name: str) -> None:
    """Raise UserError for what is no name for a user."""
    if _NAME.fullmatch(name) is None:
        raise UserError(f"{name!r} is no name for a user", hint="Use up to 63 letters, digits, dots, -, _ and @.")
    if name in _RESERVED:
        raise UserError(f"{name} is who asks by a manager's UNIX socket", hint="Choose another name.")


def _patterns(role: UserRole, asked: tuple[str, ...]) -> tuple[str, ...]:
    if role == "viewer" and not asked:
        return ("*",)
    return tuple(sorted(set(asked)))


def _checked(user: User) -> User:
    if user.role in ("operator", "admin") and user.stacks:
        raise UserError(f"a user of the role {user.role} has all stacks", hint="Take the stacks out.")
    if user.role == "deployer" and not user.stacks:
        raise UserError(
            "a deployer is for some stacks", hint="Say which, such as --stack shop --stack 'team-*'; '*' are all."
        )
    if user.privileged and user.role != "deployer":
        raise UserError(f"privileged is for deployers: the role {user.role} needs it not, or may not deploy at all")
    check_patterns(user.stacks)
    return user


def check_patterns(patterns: tuple[str, ...]) -> None:
    """Raise UserError for what names no stacks."""
    if len(patterns) > MOST_PATTERNS:
        raise UserError(f"{len(patterns)} patterns of stacks are too many", hint=f"{MOST_PATTERNS} are the most.")
    for pattern in patterns:
        if _PATTERN.fullmatch(pattern) is None:
            raise UserError(
                f"{pattern!r} names no stack", hint="Use lower-case letters, digits, - and _, and * for any of them."
            )


def _with(user: User, made: Credential, now: float) -> User:
    good = tuple(one for one in user.credentials if one.is_good(now))
    if len(good) >= MOST_CREDENTIALS:
        raise Conflict(
            f"the user {user.name} has {len(good)} tokens and certificates already",
            hint=f"`stack user inspect {user.name}` lists them, `stack user revoke {user.name} ID` takes one away.",
        )
    return replace(user, credentials=(*good, made))


def _ident() -> str:
    return secrets.token_hex(6)
