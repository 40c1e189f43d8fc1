"""Routes about people and programs: who they are, what they may do, and with what they prove it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, TypeVar

from fastapi import APIRouter, Depends
from starlette.responses import Response

from cluster.codec import key_of
from cluster.errors import Conflict, Forbidden, NotFound
from cluster.membership import CertificateReply, CertificateRequest
from cluster.model.user import Credential, User
from cluster.people import (
    NewUser,
    NewUserCertificate,
    NewUserToken,
    SelfView,
    UserChange,
    UserToken,
    UserTokenReply,
    UserView,
)
from cluster.pki import LEAF_LIFE, ca_digest, key_digest
from manager import audit, people
from manager.api.bodies import answer, body, takes
from manager.api.callers import CallerKind
from manager.api.core import TRIES, Core, ReadyCore, busy
from manager.api.rules import Permitted
from manager.etcd import delete

router = APIRouter(prefix="/v1", tags=["people"])

Made = TypeVar("Made")


@router.get("/me", response_model=SelfView)
async def me(caller: Permitted, core: ReadyCore) -> Response:
    """Who the manager takes the caller for."""
    found = people.holder(core.state, caller.credential, core.clock())
    expires_at = None if found is None else found[1].expires_at
    return answer(
        SelfView(
            caller.name, caller.kind, caller.role or "", caller.stacks, caller.privileged, caller.credential, expires_at
        )
    )


@router.post("/me/certificate", response_model=CertificateReply, openapi_extra=takes(NewUserCertificate))
async def own_certificate(
    caller: Permitted, core: ReadyCore, request: Annotated[NewUserCertificate, Depends(body(NewUserCertificate))]
) -> Response:
    """Give a user a client certificate, which ends after 90 days or when its user is taken out."""
    if caller.kind is not CallerKind.CLIENT or caller.name not in core.state.users:
        raise Forbidden(f"{caller} is no user with a record", hint="Ask with a user's token or certificate.")
    if request.again:
        return answer(await _renewed(core, caller.name, request.csr, caller.credential))
    return answer(await _certificate(core, caller.name, request.csr, caller.credential))


@router.get("/users", response_model=list[UserView])
async def users(caller: Permitted, core: ReadyCore) -> Response:
    """List users, with their credentials but for the secrets."""
    return answer([people.view(user, core.clock()) for _, user in sorted(core.state.users.items())])


@router.get("/users/{name}", response_model=UserView)
async def user(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Show a user."""
    return answer(people.view(_found(core, name), core.clock()))


@router.post("/users", response_model=UserTokenReply, openapi_extra=takes(NewUser))
async def create_user(
    caller: Permitted, core: ReadyCore, request: Annotated[NewUser, Depends(body(NewUser))]
) -> Response:
    """Make a user with a token, which is in the reply and nowhere else."""
    for _ in range(TRIES):
        if request.name in core.state.users:
            raise Conflict(
                f"there is a user {request.name} already",
                hint="`stack user update` changes what it may do, `stack user token` gives it a token.",
            )
        made = people.new_user(request, caller.author, core.clock())
        made, token = people.with_token(made, _ca(core), core.clock(), request.expires_in)
        audit.note(about=made.name, after=people.words(made))
        if await core.write([made], {key_of(made): 0}):
            return answer(UserTokenReply(people.view(made, core.clock()), token.credential, str(token)))
    raise busy(f"the user {request.name}")


@router.patch("/users/{name}", response_model=UserView, openapi_extra=takes(UserChange))
async def change_user(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[UserChange, Depends(body(UserChange))]
) -> Response:
    """Change what a user may do, at once."""
    changed, _ = await _change(core, name, lambda known: (people.changed(known, request), None))
    return answer(people.view(changed, core.clock()))


@router.delete("/users/{name}", status_code=204)
async def remove_user(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Take a user out, with all of its tokens and certificates; streams that it has open end."""
    for _ in range(TRIES):
        key = key_of(_found(core, name))
        audit.note(about=name, before=people.words(_found(core, name)), after="removed")
        if await core.write([], {key: core.state.revision_of(key)}, [delete(key)]):
            return Response(status_code=204)
    raise busy(f"the user {name}")


@router.post("/users/{name}/tokens", response_model=UserTokenReply, openapi_extra=takes(NewUserToken))
async def create_user_token(
    caller: Permitted, core: ReadyCore, name: str, request: Annotated[NewUserToken, Depends(body(NewUserToken))]
) -> Response:
    """Give a user one more token, which is in the reply and nowhere else."""

    def change(known: User) -> tuple[User, UserToken]:
        return people.with_token(known, _ca(core), core.clock(), request.expires_in)

    changed, token = await _change(core, name, change)
    return answer(UserTokenReply(people.view(changed, core.clock()), token.credential, str(token)))


@router.delete("/users/{name}/credentials", response_model=UserView)
async def revoke_all(caller: Permitted, core: ReadyCore, name: str) -> Response:
    """Make all tokens and certificates of a user worthless, at once."""
    changed, _ = await _change(core, name, lambda known: (people.without(known, None), None))
    return answer(people.view(changed, core.clock()))


@router.delete("/users/{name}/credentials/{ident}", response_model=UserView)
async def revoke(caller: Permitted, core: ReadyCore, name: str, ident: str) -> Response:
    """Make one token or certificate of a user worthless, at once."""

    def change(known: User) -> tuple[User, None]:
        if ident not in (one.id for one in known.credentials):
            raise NotFound(
                f"the user {name} has no token or certificate {ident}", hint=f"`stack user inspect {name}` lists them."
            )
        return people.without(known, ident), None

    changed, _ = await _change(core, name, change)
    return answer(people.view(changed, core.clock()))


@router.post("/certificates", response_model=CertificateReply, openapi_extra=takes(CertificateRequest))
async def certificate(
    caller: Permitted, core: ReadyCore, request: Annotated[CertificateRequest, Depends(body(CertificateRequest))]
) -> Response:
    """Give an admin a certificate to work on this cluster with; makes the user if there is none of that name."""
    known = core.state.users.get(request.name)
    if known is not None and known.role != request.role:
        raise Conflict(
            f"the user {request.name} is a {known.role}",
            hint=f"`stack user update {request.name} --role {request.role}`, or use another name.",
        )
    if known is None:
        made = people.new_user(NewUser(request.name, request.role), caller.author, core.clock())
        key_digest(request.csr)  # so that no user is made for a request that cannot be used
        audit.note(about=request.name, after=people.words(made))
        await core.write([made], {key_of(made): 0})
    return answer(await _certificate(core, request.name, request.csr, for_oldest=True))


async def _certificate(core: Core, name: str, csr: str, by: str = "", *, for_oldest: bool = False) -> CertificateReply:
    """Sign a certificate for a user; it does not outlast the credential `by` that it was asked for with."""
    key_digest(csr)
    now, ca = core.clock(), core.authority.ca  # which another one may take the place of while this waits
    end = now + LEAF_LIFE.total_seconds()
    if (found := people.holder(core.state, by, now)) is not None and found[1].expires_at is not None:
        end = min(end, found[1].expires_at)

    def change(known: User) -> tuple[User, Credential]:
        return people.with_certificate(known, now, end, ca_digest(ca.certificate), for_oldest=for_oldest)

    _, credential = await _change(core, name, change)
    return core.authority.user_reply(ca, credential.id, csr, now=now, life=end - now)


async def _renewed(core: Core, name: str, csr: str, credential: str) -> CertificateReply:
    """Sign a certificate of the root that signs now in the place of another one."""
    key_digest(csr)
    now, ca = core.clock(), core.authority.ca
    _, held = await _change(core, name, lambda known: people.with_renewed(known, credential, ca_digest(ca.certificate)))
    life = LEAF_LIFE.total_seconds() if held.expires_at is None else held.expires_at - now
    return core.authority.user_reply(ca, credential, csr, now=now, life=life)


async def _change(core: Core, name: str, change: Callable[[User], tuple[User, Made]]) -> tuple[User, Made]:
    for _ in range(TRIES):
        known = _found(core, name)
        wanted, made = change(known)
        key = key_of(known)
        audit.note(about=name, before=people.words(known), after=people.words(wanted))
        if wanted == known or await core.write([wanted], {key: core.state.revision_of(key)}):
            return wanted, made
    raise busy(f"the user {name}")


def _found(core: Core, name: str) -> User:
    if name not in core.state.users:
        raise NotFound(f"there is no user {name}", hint="`stack user ls` lists those that there are.")
    return core.state.users[name]


def _ca(core: Core) -> str:
    return core.authority.digest
