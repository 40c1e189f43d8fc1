"""Routes for agents: their session, and the streams that they are asked for."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.websockets import WebSocket

from manager.api.core import AnyCore
from manager.api.rules import Permitted

router = APIRouter(prefix="/v1/agent")


@router.websocket("/session")
async def session(socket: WebSocket, core: AnyCore, caller: Permitted) -> None:
    """Hold an agent's session; `cluster.protocol` says how the two talk."""
    await core.sessions.attend(socket, caller.name)


@router.websocket("/streams/{ticket}")
async def stream(socket: WebSocket, ticket: str, core: AnyCore, caller: Permitted) -> None:
    """Take a stream that this agent was asked for, and hand it on to whoever asked."""
    await core.sessions.streams.carry(socket, caller.name, ticket)
