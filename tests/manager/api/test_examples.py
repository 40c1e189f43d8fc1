"""The examples of the API's page: each is what its operation takes or answers, and has all that a manager tells."""

from __future__ import annotations

import json
from typing import Any, cast

import pytest
from fastapi.routing import APIRoute, iter_route_contexts
from pydantic import TypeAdapter

from manager.api import bodies
from manager.api.app import create_app
from tests.manager.api.test_document import THERE, filled
from tests.manager.managers import Client, RunningManager

APP = create_app(cast(Any, None))
DOCUMENT = APP.openapi()
OPERATIONS = [(method, path, one) for path, some in DOCUMENT["paths"].items() for method, one in some.items()]
JSON = "application/json"

NO_EXAMPLE = {"GET /v1/backup"}
"""It answers with what no page can show."""

OTHERWISE = {"GET /v1/tokens", "GET /v1/metrics", "GET /v1/metrics/tasks", "GET /v1/self", "GET /v1/discovery/traefik"}
"""Who asks for these is another one, or the answer has no fields of its own."""


def answers(operation: dict[str, Any]) -> dict[str, Any]:
    [good] = [answer for status, answer in operation["responses"].items() if status.startswith("2")]
    told: dict[str, Any] = good.get("content", {})
    return told


def test_each_operation_says_what_it_is_for_who_may_ask_and_what_may_go_wrong() -> None:
    for method, path, operation in OPERATIONS:
        assert 3 < len(operation["summary"]) < 120, (method, path)
        assert "\n\nFor " in "\n\n" + operation["description"].rpartition("\n\n")[2], (method, path)
        assert "security" in operation or "For root" in operation["description"], (method, path)
        assert {"default", "503"} <= operation["responses"].keys(), (method, path)
    summaries = [operation["summary"] for _, _, operation in OPERATIONS]
    assert len(set(summaries)) == len(summaries)


def test_each_operation_has_examples() -> None:
    for method, path, operation in OPERATIONS:
        if f"{method.upper()} {path}" in NO_EXAMPLE:
            continue
        if "requestBody" in operation:
            assert "example" in operation["requestBody"]["content"][JSON], (method, path)
        for told in answers(operation).values():
            assert "example" in told or told["schema"] == {}, (method, path)


def test_examples_are_what_is_taken_and_answered() -> None:
    models = {model.__name__: adapter for model, adapter in bodies._adapters.items()}
    for context in iter_route_contexts(APP.routes):
        route = context.route
        if not isinstance(route, APIRoute):
            continue
        for method in route.methods or ():
            operation = DOCUMENT["paths"].get(route.path, {}).get(method.lower())
            if operation is None:
                continue
            if "requestBody" in operation:
                content = operation["requestBody"]["content"][JSON]
                model = models[content["schema"]["$ref"].rpartition("/")[2]]
                model.validate_json(json.dumps(content["example"]), strict=True, extra="forbid")
            example = answers(operation).get(JSON, {}).get("example")
            if example is not None:
                adapter: TypeAdapter[Any] = TypeAdapter(route.response_model)
                adapter.validate_json(json.dumps(example), strict=True, extra="forbid")
    error = models.get("ErrorBody")
    assert error is None, "it is answered, and never taken"


def fields(value: Any) -> Any:
    """What a value has at its outside: a list has what its first item has."""
    if isinstance(value, list):
        return fields(value[0]) if value else None
    return set(value) if isinstance(value, dict) else type(value)


@pytest.mark.etcd
async def test_a_manager_answers_as_the_examples_do(manager: RunningManager, root: Client) -> None:
    await manager.join("n1")
    await filled(root)
    seen = 0
    for method, path, operation in OPERATIONS:
        example = answers(operation).get(JSON, {}).get("example")
        if method != "get" or example is None or f"GET {path}" in OTHERWISE:
            continue
        there = next((names for begin, names in THERE.items() if path.startswith(begin)), {})
        if path.count("{") != sum(f"{{{name}}}" in path for name in there):
            continue
        answer = await root.ask("GET", path.removeprefix("/v1").format(**there))
        if answer.status == 200 and fields(answer.body) is not None:
            assert fields(answer.body) == fields(example), path
            seen += 1
    assert seen > 20
