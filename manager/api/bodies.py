"""Request bodies and answers: the model's own dataclasses, strictly read, and described on the OpenAPI page."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from pydantic import TypeAdapter, ValidationError
from starlette.requests import Request
from starlette.responses import Response

from cluster.errors import UserError
from cluster.views import ErrorBody

T = TypeVar("T")
Named = TypeVar("Named")

LARGEST_BODY = 4 * 1024 * 1024
BODY_TIMEOUT = 120.0
SLICE = 0.005
"""Seconds of making a long answer after which others on the event loop have their turn."""

_REFS = "#/components/schemas/{model}"
_adapters: dict[type[Any], TypeAdapter[Any]] = {}


def body(model: type[T], largest: int = LARGEST_BODY) -> Callable[[Request], Awaitable[T]]:
    """Make a dependency that reads a body of so many bytes at most: no field unknown, none of another type."""
    adapter = _adapters.setdefault(model, TypeAdapter(model))

    async def read(request: Request) -> T:
        data = bytearray()
        try:
            async with asyncio.timeout(BODY_TIMEOUT):
                async for chunk in request.stream():
                    data += chunk
                    if len(data) > largest:
                        raise UserError(f"the request's body is bigger than {largest} bytes")
        except TimeoutError:
            raise UserError(f"the request's body did not come within {BODY_TIMEOUT:.0f} s") from None
        try:
            return adapter.validate_json(bytes(data), strict=True, extra="forbid")  # type: ignore[no-any-return]
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the request's body"
            raise UserError(f"{where}: {first['msg']}", hint=_more(error.error_count() - 1)) from error

    return read


def _more(count: int) -> str:
    return f"There are {count} more mistakes like this." if count else ""


def takes(model: type[Any]) -> dict[str, Any]:
    """Describe a route's body on the OpenAPI page."""
    schema = {"$ref": _REFS.format(model=model.__name__)}
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def answer(value: Any, status: int = 200) -> Response:
    """Write an answer with the codec that is fast: a list of thousands must not hold up the event loop."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def listed(named: Mapping[str, Named], views: Callable[[Named], Iterable[Any]]) -> Response:
    """Answer with the views of many things, by name. Others on the event loop have their turn in between.

    What goes meanwhile is not in the answer.
    """
    made: list[Any] = []
    began = time.monotonic()
    for name in tuple(named):
        if name in named:
            made += views(named[name])
        if time.monotonic() - began > SLICE:
            await asyncio.sleep(0)
            began = time.monotonic()
    return answer(sorted(made, key=lambda view: view.name))


def line(value: Any) -> bytes:
    """Write one line of a stream."""
    return msgspec.json.encode(value) + b"\n"


def add_schemas(document: dict[str, Any]) -> None:
    """Add the bodies' types to an OpenAPI document, and what every error looks like."""
    inputs: list[Any] = [(model, "validation", adapter) for model, adapter in _adapters.items()]
    inputs.append((ErrorBody, "serialization", TypeAdapter(ErrorBody)))
    _, schemas = TypeAdapter.json_schemas(inputs, ref_template=_REFS)
    document.setdefault("components", {}).setdefault("schemas", {}).update(schemas.get("$defs", {}))
    error = {
        "description": "What is wrong, where, and what to do",
        "content": {"application/json": {"schema": {"$ref": _REFS.format(model="ErrorBody")}}},
    }
    for path in document["paths"].values():
        for operation in path.values():
            operation["responses"]["default"] = error
            operation["responses"].pop("422", None)
