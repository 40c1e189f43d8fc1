"""Whatever the OpenAPI document allows to ask, and much that it does not, has an answer that the document tells of.

Requests are made up from the document, right and wrong ones, of a manager with something of each kind in it. A
server's own errors are never an answer; what is answered has the form that the document says.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import load_all_checks, not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.schemas import APIOperation
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackSpec
from manager.api.app import create_app
from tests.manager.api.obedient import obedient
from tests.manager.managers import Client, RunningManager

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(900)]

EXAMPLES = int(os.environ.get("STACKYARD_API_EXAMPLES", "2"))
"""Requests of each sort for each route: a few are enough for a change of the API, more for a long look."""

Operation = APIOperation[Any, Any, Any, Any]

CHECKS: Any = [not_a_server_error, status_code_conformance, content_type_conformance, response_schema_conformance]
TIMEOUT = 60.0

ENDLESS = {"GET /v1/stacks/{name}/progress", "GET /v1/logs"}
"""Streams: they are asked for what is not there."""

SLOW = {"POST /v1/doctor"}
"""It waits for agents' answers."""

THERE = {
    "/v1/stacks": {"name": "shop", "n": "head"},
    "/v1/services": {"name": "shop_web"},
    "/v1/explain": {"name": "shop_web"},
    "/v1/nodes": {"name": "n1"},
    "/v1/secrets": {"name": "db"},
    "/v1/configs": {"name": "db"},
    "/v1/users": {"name": "ann", "ident": "0123"},
    "/v1/tokens": {"role": "worker", "ident": "0123"},
    "/v1/volumes": {"name": "shop_data"},
}
"""What there is, by the beginning of the path."""


async def filled(root: Client) -> None:
    spec = StackSpec("shop", {"web": ServiceSpec("web", ContainerSpec("app:1"))})
    for method, path, body in (
        ("PUT", "/stacks/shop", {"spec": spec, "operation": "op"}),
        ("PUT", "/secrets/db", {"data": "c2VjcmV0"}),
        ("PUT", "/configs/db", {"data": "c2VjcmV0"}),
        ("POST", "/users", {"name": "ann", "role": "viewer"}),
    ):
        assert (await root.ask(method, path, body)).status == 200, path


def operations() -> list[Operation]:
    schema = schemathesis.openapi.from_dict(create_app(None).openapi())  # type: ignore[arg-type]  # nobody is served
    chosen = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        if result.ok().label not in SLOW:
            chosen.append(result.ok())
    return sorted(chosen, key=lambda one: one.method == "delete")  # what is there stays until the end


def sorts(operation: Operation) -> Iterator[Any]:
    """Give the sorts of requests: right and wrong ones for what is not there, and right ones for what is."""
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
        yield operation.as_strategy(mode)
    there = next((names for begin, names in THERE.items() if operation.path.startswith(begin)), {})
    named = {name: value for name, value in there.items() if f"{{{name}}}" in operation.path}
    if named and operation.label not in ENDLESS:
        yield operation.as_strategy(path_parameters=named)


def ask(operation: Operation, base: str, ca: str, token: str) -> None:
    for strategy in sorts(operation):

        @settings(
            max_examples=EXAMPLES,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(case=strategy)
        def one(case: Any) -> None:
            case.headers = {**(case.headers or {}), "Authorization": f"Bearer {token}"}
            case.call_and_validate(base_url=base, checks=CHECKS, verify=ca, timeout=TIMEOUT)

        try:
            one()
        except schemathesis.errors.InvalidSchema:
            raise
        except Exception as error:
            if type(error).__name__ != "Unsatisfiable":  # nothing wrong can be made up, as for a route without input
                raise


async def test_every_answer_is_as_the_document_says(manager: RunningManager, root: Client) -> None:
    load_all_checks()
    made = await root.ask("POST", "/users", {"name": "olga", "role": "admin"})
    token = made.body["token"]
    ca = manager.directory / "ca.pem"
    ca.write_text(manager.ca)
    async with obedient(manager):
        await filled(root)
        for operation in operations():
            await asyncio.to_thread(ask, operation, manager.base, str(ca), token)
    assert await root.ask("GET", "/ping")
