"""The application: all routes, what errors look like, and the page that describes it."""

from __future__ import annotations

import logging
from typing import Any

from fastapi import Depends, FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.websockets import WebSocket

from cluster.errors import StackyardError
from cluster.views import ErrorBody
from manager import audit
from manager.api import (
    agents,
    attachments,
    authority,
    backup,
    doctor,
    events,
    explain,
    members,
    monitoring,
    networks,
    nodes,
    oneoffs,
    plans,
    reach,
    rebalance,
    secrets,
    services,
    stacks,
    system,
    unlock,
    upgrade,
    usage,
    users,
    volumes,
)
from manager.api import (
    audit as audit_routes,
)
from manager.api.audited import Audited
from manager.api.bodies import answer
from manager.api.core import Core
from manager.api.document import complete
from manager.api.roots_told import RootsTold
from manager.api.rules import permitted

log = logging.getLogger(__name__)


class _App(FastAPI):
    def openapi(self) -> dict[str, Any]:
        if self.openapi_schema is None:
            document = super().openapi()
            complete(document)
            self.openapi_schema = document
        return self.openapi_schema


def create_app(core: Core) -> FastAPI:
    """Make the application of one manager."""
    app = _App(
        title="Stackyard",
        version="v1",
        docs_url="/v1/docs",
        redoc_url=None,
        openapi_url="/v1/openapi.json",
        dependencies=[Depends(permitted)],
    )
    app.state.core = core
    app.add_middleware(Audited, core=core)
    app.add_middleware(RootsTold, core=core)
    about_all = (backup, system, authority, upgrade, members, users, audit_routes, events, monitoring)
    about_nodes = (nodes, doctor, rebalance)
    of_stacks = (stacks, plans, networks, attachments, volumes, secrets, unlock)
    of_services = (services, usage, reach, oneoffs, explain)
    for module in (*about_all, *about_nodes, *of_stacks, *of_services, agents):
        app.include_router(module.router)
    app.add_exception_handler(StackyardError, _known)  # type: ignore[arg-type]  # it takes both kinds of connection
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http)
    app.add_exception_handler(Exception, _bug)
    for route in app.routes:  # FastAPI puts routes together when it is first asked for one, and takes up to a second
        route.matches({"type": "http", "method": "GET", "path": "/", "headers": []})
    return app


async def _known(connection: Request | WebSocket, error: Exception) -> Response | None:
    """Tell the nearest kind of error that clients know: those of the etcd client are the manager's own affair."""
    assert isinstance(error, StackyardError)
    kind = next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "cluster.errors")
    audit.told(error.message if error.http_status not in (400, 500) else kind)
    told = answer(ErrorBody(error.message, error.hint, kind), error.http_status)
    if error.http_status == 401:
        told.headers["WWW-Authenticate"] = "Bearer"
    if error.http_status >= 500:
        log.warning("%s: %s", connection.url.path, error.message)
    if isinstance(connection, WebSocket):
        await connection.send_denial_response(told)
        return None
    return told


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    return answer(ErrorBody(f"{where}: {first['msg']}", kind="UserError"), 400)


async def _http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    hint = "The page /v1/docs lists what there is."
    kind = "NotFound" if error.status_code == 404 else "UserError"
    return answer(ErrorBody(f"{request.method} {request.url.path}: {error.detail}", hint, kind), error.status_code)


async def _bug(request: Request, error: Exception) -> Response:
    """What is not foreseen is logged with its trace by uvicorn, to which it goes on."""
    told = ErrorBody(f"a bug in the manager: {type(error).__name__}", "Its log tells more.", "Inconsistent")
    return answer(told, 500)
