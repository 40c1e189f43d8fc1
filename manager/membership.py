"""This manager's etcd among the others': the endpoints that there are, newcomers, and members that go."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from typing import NoReturn

from cluster.errors import Conflict, Unavailable
from cluster.membership import MemberReply
from cluster.model.node import Node
from manager.etcd import Etcd, EtcdUnavailable, Member, Refused, UnknownOutcome, remains_able
from manager.etcd_server import Own

log = logging.getLogger(__name__)

LOOK = 5.0
"""Seconds between two looks at who etcd's members are."""


async def follow(etcd: Etcd) -> NoReturn:
    """Know all members' endpoints, for when this manager's own etcd fails."""
    while True:
        try:
            await _members(etcd)
        except (EtcdUnavailable, Refused) as error:
            log.info("who etcd's members are is not known now: %s", error.message)
        await asyncio.sleep(LOOK)


async def settle(etcd: Etcd, own: Own) -> None:
    """Have a lone member be reachable for others at the address that it has now."""
    members = await etcd.members.all()
    if len(members) == 1 and members[0].peers != (own.peer,):
        log.info("this manager's etcd is reached by others at %s from now on", own.peer)
        await etcd.members.move(members[0].id, own.peer)


async def admit(etcd: Etcd, own: Own, name: str, peer: str) -> MemberReply:
    """Let another etcd come; one that was at the same address before has lost its data and is taken out first."""
    members = await _members(etcd)
    for stale in [member for member in members if peer in member.peers]:
        await _remove(etcd, members, stale)
    waiting = next((member.peers[0] for member in members if member.learner and peer not in member.peers), None)
    if waiting is not None:
        raise Conflict(
            f"the etcd at {waiting} is being taken in, and it is one at a time",
            hint="Ask again when that has joined; `stack node rm --force` on its node gives it up.",
        )
    alive = {status.member_id for status in await etcd.status()}
    for dead in [member for member in members if member.id not in alive and peer not in member.peers]:
        raise Conflict(
            f"the etcd of {dead.name or dead.peers[0]} does not answer, and none is taken in meanwhile",
            hint="Bring it back, or take it out with `stack node rm --force` on its node.",
        )
    try:
        await etcd.members.add_learner(peer)
    except UnknownOutcome as error:
        log.info("looking whether the etcd at %s was added: %s", peer, error.message)
    members = await etcd.members.all()
    if not any(peer in member.peers for member in members):
        raise Unavailable(f"etcd did not take in a member at {peer}", hint="Ask again.")
    known = {url: member.name or f"m{member.id:x}" for member in members for url in member.peers}
    log.info("the etcd of %s at %s may come", name, peer)
    return MemberReply(
        ca=own.authority.certificate,
        key=own.authority.key,
        members={url: other for url, other in known.items() if url != peer},
        endpoints=tuple(url for member in members for url in outer(member.clients)),
    )


async def forget(etcd: Etcd, node: Node) -> None:
    """Take a node's etcd out, if it has one. Raises Conflict where the others could not go on without it."""
    members = await _members(etcd)
    for member in members:
        if member.name == node.name:
            await _remove(etcd, members, member)


async def _members(etcd: Etcd) -> tuple[Member, ...]:
    """Ask who the members are, and know all that have a vote."""
    members = await etcd.members.all()
    etcd.learn(url for member in members if not member.learner for url in outer(member.clients))
    return members


async def _remove(etcd: Etcd, members: Iterable[Member], member: Member) -> None:
    alive = {status.member_id for status in await etcd.status()}
    if not member.learner and not remains_able(members, alive, member.id):
        raise Conflict(
            f"without the etcd of {member.name or member.peers[0]} the cluster could not decide anything any more: of "
            "the others too few answer",
            hint="Bring the other managers back, or let another one join, first.",
        )
    log.info("taking the etcd of %s at %s out", member.name, ", ".join(member.peers))
    try:
        await etcd.members.remove(member.id)
    except UnknownOutcome as error:
        if any(other.id == member.id for other in await etcd.members.all()):
            raise Unavailable(f"it is not known whether etcd let a member go: {error.message}") from error
    except Refused as error:
        if "not found" not in error.message:
            raise Conflict(
                f"etcd does not let {member.name} go: {error.message}", hint="Ask again in a while."
            ) from error


def outer(urls: Iterable[str]) -> list[str]:
    """Those of a member's URLs that other hosts can use."""
    return [url for url in urls if "//127.0.0.1:" not in url and "//[::1]:" not in url]
