"""The members of etcd's own cluster: who they are, taking in another one, letting one go.

A new member is a learner first: it has no vote before it has all data, so that adding it never costs the quorum.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aetcd import rpc

from manager.etcd.endpoints import WRITE_TIMEOUT, Endpoints


@dataclass(frozen=True, slots=True)
class Member:
    """`name` is "" until it has started; `peers` and `clients` are URLs."""

    id: int
    name: str
    peers: tuple[str, ...]
    clients: tuple[str, ...]
    learner: bool


def remains_able(voters: Iterable[Member], alive: Iterable[int], without: int) -> bool:
    """Tell whether the members that are left can still agree on anything once one is gone; `alive` are ids."""
    rest = {member.id for member in voters if not member.learner and member.id != without}
    return len(rest & set(alive)) > len(rest) // 2


class Members:
    """Asks etcd about its members, and changes them. Raises what every call to etcd may."""

    def __init__(self, endpoints: Endpoints) -> None:
        self._endpoints = endpoints

    async def all(self) -> tuple[Member, ...]:
        answer = await self._endpoints.call(
            lambda endpoint: endpoint.cluster.MemberList, rpc.MemberListRequest(), repeatable=True
        )
        return tuple(map(_member, answer.members))

    async def add_learner(self, peer: str) -> Member:
        """Let a member come that other members reach at that URL. UnknownOutcome: look whether it is there."""
        answer = await self._change("MemberAdd", rpc.MemberAddRequest(peerURLs=[peer], isLearner=True))
        return _member(answer.member)

    async def promote(self, ident: int) -> None:
        """Give a learner its vote. Refused while it does not have all data yet."""
        await self._change("MemberPromote", rpc.MemberPromoteRequest(ID=ident))

    async def move(self, ident: int, peer: str) -> None:
        """Say where other members reach one."""
        await self._change("MemberUpdate", rpc.MemberUpdateRequest(ID=ident, peerURLs=[peer]))

    async def remove(self, ident: int) -> None:
        await self._change("MemberRemove", rpc.MemberRemoveRequest(ID=ident))

    async def _change(self, method: str, request: Any) -> Any:
        return await self._endpoints.call(
            lambda endpoint: getattr(endpoint.cluster, method), request, repeatable=False, timeout=WRITE_TIMEOUT
        )


def _member(message: Any) -> Member:
    return Member(message.ID, message.name, tuple(message.peerURLs), tuple(message.clientURLs), bool(message.isLearner))
