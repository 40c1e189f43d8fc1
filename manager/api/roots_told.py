"""Tells with each answer which roots of the CA are trusted, so that whoever asks can know that they are others now."""

from __future__ import annotations

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cluster import headers
from manager.api.core import Core


class RootsTold:
    """Round the application; before the CA was rotated first there is nothing to tell."""

    def __init__(self, app: ASGIApp, core: Core) -> None:
        self._app, self._core = app, core

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or not self._core.authority.trust.generation:
            await self._app(scope, receive, send)
            return

        async def tell(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message)[headers.ROOTS] = self._core.authority.bundle_digest
            await send(message)

        await self._app(scope, receive, tell)
