"""Proves who is asking: a bearer token or a client certificate against the users, with wrong tries held down."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager

from starlette.requests import HTTPConnection

from cluster.errors import TooMany, Unauthenticated, UserError
from cluster.model.user import Credential, User
from cluster.people import UserToken, parse_user_token
from manager import people
from manager.api.callers import ANONYMOUS, SCOPE_KEY, Caller, CallerKind
from manager.api.core import Core
from manager.picture import ClusterState

LONGEST_HEADER = 256
_HINT = "Ask an admin for another one: `stack user token NAME`."


def identified(connection: HTTPConnection, core: Core) -> Caller:
    """Tell who sends a request. Raises Unauthenticated for a credential that is not good, TooMany for many of those.

    A token goes before what the connection itself proves. ANONYMOUS is who shows nothing at all.
    """
    given = connection.headers.get("authorization")
    if given is not None:
        token = _read(given)
        with tried(connection, core, "" if token is None else token.credential):
            found = None if token is None else _holder(core, token)
            if found is None:
                raise Unauthenticated("the token is not valid, or not any more", hint=_HINT)
        return as_caller(*found)
    caller = connection.scope.get(SCOPE_KEY, ANONYMOUS)
    assert isinstance(caller, Caller)
    if caller.kind is not CallerKind.CLIENT or not caller.credential:
        return caller
    found = people.holder(core.state, caller.credential, core.clock())
    if found is None:
        raise Unauthenticated("the certificate was revoked, or has ended", hint=_HINT)
    return as_caller(*found)


@contextmanager
def tried(connection: HTTPConnection, core: Core, credential: str) -> Iterator[None]:
    """Judge a credential inside of the block, whose errors say that it is wrong. Raises TooMany for many of those."""
    address = "" if connection.client is None else connection.client.host
    now = time.monotonic()
    if wait := core.tries.wait(address, credential, now):
        raise TooMany(
            f"too many wrong tokens came from {address or 'there'}", hint=f"Ask again in {math.ceil(wait)} s."
        )
    try:
        yield
    except UserError:
        core.tries.wrong(address, now)
        raise
    core.tries.right(address, credential)


def _holder(core: Core, token: UserToken) -> tuple[User, Credential] | None:
    found = people.holder(core.state, token.credential, core.clock())
    right = found is not None and people.is_right(found[1], token.secret)
    ours = token.ca_digest == core.authority.digest or core.authority.has_rotated(token.ca_digest)
    return found if right and ours else None


def _read(header: str) -> UserToken | None:
    kind, _, text = header[:LONGEST_HEADER].partition(" ")
    try:
        return parse_user_token(text) if kind.lower() == "bearer" else None
    except UserError:
        return None


def as_caller(user: User, credential: Credential) -> Caller:
    return Caller(CallerKind.CLIENT, user.name, user.role, user.stacks, user.privileged, credential.id)


def is_still(caller: Caller, state: ClusterState, now: float) -> bool:
    """Tell whether a caller is who it was when it began, and may what it might."""
    if not caller.credential:
        return True
    found = people.holder(state, caller.credential, now)
    return found is not None and as_caller(*found) == caller
