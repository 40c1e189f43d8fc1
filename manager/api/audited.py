"""Sees each request begin and end, for the audit log: the routes between say who asks for what, and what it changes."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from manager import audit
from manager.api.core import Core

_AGENTS = "/v1/agent/"
"""What agents say and are told all the time is no matter of the log, and each frame would come by here."""


class Audited:
    """Round the application."""

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app, self._core = app, core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].startswith(_AGENTS):
            await self._app(scope, receive, send)
            return
        with audit.calling(self._core.clock()) as call:
            ended = False

            async def note(message: Message) -> None:
                nonlocal ended
                if not ended and (status := _status(message)):
                    ended = True
                    self._core.audit.end(call, status)
                await send(message)

            try:
                await self._app(scope, receive, note)
            except Exception:
                if not ended:
                    self._core.audit.end(call, 500)
                raise


def _status(message: Message) -> int:
    """Give what is answered, 0 for what is no answer yet. A stream is opened, or refused."""
    match message["type"]:
        case "http.response.start" | "websocket.http.response.start":
            return int(message["status"])
        case "websocket.accept":
            return 101
        case "websocket.close":
            return 403
        case _:
            return 0
