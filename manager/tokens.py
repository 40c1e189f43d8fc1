"""Join tokens: the standing one of each role, and invitations made for a time or for one node.

A standing token is derived from the CA's key and a counter that is all that is stored; rotating raises the counter. An
invitation is random and shown once: stored is the SHA-256 of its secret, with what it is good for.
"""

from __future__ import annotations

import hashlib
import secrets
import string
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from cluster import pki
from cluster.errors import Conflict, Forbidden, Inconsistent, NotFound, UserError
from cluster.membership import JoinTokens, NewToken, TokenReply, TokenView
from cluster.model.node import Role
from manager import audit
from manager.authority import ROLES, Authority, TokenRecord, read, token_key, written
from manager.etcd import Etcd, KeyValue, Operation, UnknownOutcome, delete, put, unchanged

PREFIX = "/stackyard/pki/invitation/"
LONGEST = 10 * 365 * 86400.0
_ALPHABET = string.digits + string.ascii_lowercase
_TRIES = 10


class Invitation(msgspec.Struct, frozen=True):
    """`expires_at` is cluster time; `used_by` is the node that used up one that was good for a single node; `ca` is the
    digest of the root that its text names ("" in records of managers that did not store it)."""

    role: Role
    created_at: float
    expires_at: float | None = None
    once: bool = False
    used_by: str = ""
    schema: int = 1
    ca: str = ""


@dataclass(frozen=True, slots=True)
class Admission:
    """What a token is good for; joining holds `guards` (keys at revisions) and makes `writes` in one transaction."""

    role: Role
    guards: dict[str, int]
    writes: tuple[Operation, ...] = ()


async def standing(authority: Authority, etcd: Etcd) -> JoinTokens:
    """Show the standing tokens that are good now."""
    found = {role: await _standing(authority, etcd, role) for role in ROLES}
    return JoinTokens(worker=str(found["worker"][0]), manager=str(found["manager"][0]))


async def admit(authority: Authority, etcd: Etcd, text: str, node: str, *, now: float) -> Admission:
    """Judge the token of a node (its id). Raises UserError or Forbidden for one that is not good."""
    token = pki.parse_token(text)
    if authority.has_rotated(token.ca_digest):
        raise Forbidden(
            "the join token is from before the CA was rotated",
            hint="On a manager, `stack token show` gives the one that is good now, `stack token create` makes others.",
        )
    if token.ca_digest != authority.digest:
        raise Forbidden(
            "the join token is for another cluster",
            hint="Check the manager's address, or take a token from a manager of this cluster.",
        )
    for role in ROLES:
        good, record = await _standing(authority, etcd, role)
        if pki.same_secret(token, good):
            return Admission(role, {record.key: record.mod_revision})
    kv = await etcd.get(_key(_ident(token.secret)))
    if kv is None:
        raise Forbidden("the join token is not valid, or not any more", hint="Take a fresh one from a manager.")
    invitation = read(kv, Invitation)
    if invitation.expires_at is not None and invitation.expires_at <= now:
        raise Forbidden("the join token has expired", hint="Take a fresh one from a manager.")
    if invitation.used_by not in ("", node):
        raise Forbidden(
            "the join token was good for one node, and has been used", hint="Take a fresh one from a manager."
        )
    used = msgspec.structs.replace(invitation, used_by=node)
    writes = (put(kv.key, written(used)),) if invitation.once and used != invitation else ()
    return Admission(invitation.role, {kv.key: kv.mod_revision}, writes)


def named(text: str) -> str:
    """Name a token for those who count tries, whether or not it is one."""
    return f"join {hashlib.sha256(text.encode(errors='replace')).hexdigest()}"


async def listed(authority: Authority, etcd: Etcd, *, now: float) -> list[TokenView]:
    """List the standing tokens by role and the invitations by age, without their secrets."""
    views = [TokenView(id=role, role=role, standing=True) for role in ROLES]
    invitations = [(kv.key.removeprefix(PREFIX), read(kv, Invitation)) for kv in await _stored(etcd)]
    for ident, one in sorted(invitations, key=lambda pair: pair[1].created_at):
        expired = one.expires_at is not None and one.expires_at <= now
        outdated = one.ca not in ("", authority.digest)
        views.append(
            TokenView(ident, one.role, False, one.created_at, one.expires_at, one.once, one.used_by, expired, outdated)
        )
    return views


async def create(authority: Authority, etcd: Etcd, request: NewToken, *, now: float) -> TokenReply:
    """Make an invitation; its text is in the reply and nowhere else. Those long expired are swept out."""
    if request.expires_in is not None and not 0 < request.expires_in <= LONGEST:
        raise UserError(f"a token cannot expire in {request.expires_in:g} s", hint="Give a time of up to ten years.")
    digest = authority.digest
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(32))
    expires_at = None if request.expires_in is None else now + request.expires_in
    invitation = Invitation(request.role, now, expires_at, request.once, ca=digest)
    old: Sequence[Operation] = [
        delete(kv.key)
        for kv in await _stored(etcd)
        if (end := read(kv, Invitation).expires_at) is not None and end < now - 86400
    ]
    ident = _ident(secret)
    audit.note(about=ident, after=f"for a {request.role}" + (", once" if request.once else ""))
    await etcd.txn((), [put(_key(ident), written(invitation)), *old[:50], *audit.operations()])
    return TokenReply(ident, str(pki.JoinToken(digest, secret)))


async def rotate(authority: Authority, etcd: Etcd, role: Role) -> TokenReply:
    """Make the standing token of a role worthless and give the next one. Nodes that have joined stay."""
    for _ in range(_TRIES):
        _, record = await _standing(authority, etcd, role)
        known = read(record, TokenRecord)
        rotated = written(msgspec.structs.replace(known, rotation=known.rotation + 1))
        try:
            audit.note(about=role, before=f"rotation {known.rotation}", after=f"rotation {known.rotation + 1}")
            writes = [put(record.key, rotated), *audit.operations()]
            result = await etcd.txn([unchanged(record.key, record.mod_revision)], writes)
        except UnknownOutcome:
            continue  # read again; rotating once more does no harm
        if result.succeeded:
            token, _ = await _standing(authority, etcd, role)
            return TokenReply(role, str(token))
    raise Conflict(f"the token of the role {role} is being rotated by others", hint="Ask again.")


async def revoke(etcd: Etcd, ident: str) -> None:
    """Take an invitation back. Nodes that have joined with it stay. Raises NotFound when there is none."""
    if ident in ROLES:
        raise UserError(
            f"the standing token of the role {ident} cannot be taken away",
            hint=f"`stack token rotate {ident}` replaces it.",
        )
    kv = await etcd.get(_key(ident))
    if kv is None:
        raise NotFound(f"there is no join token {ident}", hint="`stack token ls` lists them.")
    audit.note(about=ident, before=f"for a {read(kv, Invitation).role}", after="revoked")
    await etcd.txn((), [delete(kv.key), *audit.operations()])


async def _standing(authority: Authority, etcd: Etcd, role: Role) -> tuple[pki.JoinToken, KeyValue]:
    record = await etcd.get(token_key(role))
    if record is None:
        raise Inconsistent(f"the etcd key {token_key(role)} is missing")
    rotation = read(record, TokenRecord).rotation
    return pki.join_token(authority.ca, authority.cluster, role, rotation), record


async def _stored(etcd: Etcd) -> list[KeyValue]:
    return list((await etcd.range(PREFIX)).items)


def _ident(secret: str) -> str:
    """Name an invitation: the whole SHA-256 of its secret is too long to type, and 20 digits are enough to tell."""
    return hashlib.sha256(secret.encode()).hexdigest()[:20]


def _key(ident: str) -> str:
    return PREFIX + ident
