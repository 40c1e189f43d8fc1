"""The OpenAPI document as it is told: what each operation is for, who may ask, what it answers, also when it does not.

Examples are in `examples.json`, by operation; they were told by a manager, but for tokens, keys and certificates.
"""

from __future__ import annotations

import json
import re
from importlib.resources import files
from typing import Any

from manager.api.bodies import add_schemas
from manager.api.rules import RULES, Least, Rule

JSON, LINES = "application/json", "application/x-ndjson"

ABOUT = """Runs Compose files on many hosts.

Programs ask any manager, as users with a token (`stack user create NAME --role ROLE`) or a client certificate of the
cluster's CA, which `GET /v1/ca` gives. Paths begin with `/v1`: fields are added to answers, and none taken away.

Streams answer with one JSON object a line, for as long as the client reads: `GET /v1/events` with `follow` is what
happens in the cluster, in order, and goes on where it was cut with `after`; `GET /v1/stacks/{name}/progress` is how far
a stack is, anew with each change; `GET /v1/logs` with `follow` is what tasks print. What goes both ways has WebSockets,
of which this page has no word: the Python client and `stack` use them.
"""

_SENTENCE = re.compile(r"(?<=[^.]{3})[.:;](?=\s|$)")
_WHO = {
    Least.ANYONE: "For anyone.",
    Least.NODE: "For agents, with their node's certificate.",
    Least.MANAGER: "For managers among themselves.",
    Least.ROOT: "For root on a manager's host, by the UNIX socket.",
}
_SCHEMES: dict[str, Any] = {
    "token": {"type": "http", "scheme": "bearer", "description": "A user's token."},
    "certificate": {"type": "mutualTLS", "description": "A client certificate of the cluster's CA."},
}
_ERRORS = {
    "400": ("The request is wrong.", "UserError", "replicas: Input should be a valid integer", ""),
    "401": ("Nobody's token or certificate, or none.", "Unauthenticated", "the token is not valid, or not any more",
            "Ask an admin for another one: `stack user token NAME`."),
    "403": ("The caller may not do that.", "Forbidden", "/v1/nodes/n1 needs the role operator; bob is a viewer",
            "An admin can change that: `stack user update bob --role operator`."),
    "404": ("What is asked for is not there, or not the caller's affair.", "NotFound", "there is no stack shp",
            "Did you mean shop?"),
    "409": ("It does not go with how things are.", "Conflict", "the stack shop is at revision 7, not at 6",
            "Look at what was deployed in between: `stack history shop`."),
    "429": ("Many wrong tokens came from there.", "TooMany", "too many wrong tokens came from 192.0.2.9",
            "Ask again in 20 s."),
    "503": ("This manager does not reach etcd: ask again, or another one.", "Unavailable",
            "the manager n1 cannot serve: etcd could not be reached in time to stay present",
            "It goes on by itself once etcd answers; the log of etcd may tell more."),
}  # fmt: skip
"""By status: what it means, and what such an error may be: its kind, message and hint."""


def complete(document: dict[str, Any]) -> None:
    """Add what the routes themselves do not say."""
    add_schemas(document)
    document["info"]["description"] = ABOUT
    components = document["components"]
    components["securitySchemes"] = _SCHEMES
    components["responses"] = {f"Error{status}": _error(status) for status in _ERRORS}
    examples = json.loads(files(__package__).joinpath("examples.json").read_text())
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            rule = RULES[method.upper(), path]
            _describe(operation, rule)
            for status in _errors(method, path, operation, rule):
                operation["responses"][status] = {"$ref": f"#/components/responses/Error{status}"}
            _show(operation, examples.get(f"{method.upper()} {path}", {}))


def _describe(operation: dict[str, Any], rule: Rule) -> None:
    """Say in one line what it is for, and below who may ask."""
    text = operation.get("description", "")
    first = " ".join(text.partition("\n\n")[0].split())
    operation["summary"] = _SENTENCE.split(first, maxsplit=1)[0].rstrip(".")
    who = _WHO.get(rule.least) or f"For users with the role {rule.least} and up."
    operation["description"] = f"{text}\n\n{who}".lstrip()
    certificate: dict[str, list[str]] = {"certificate": []}
    if rule.least is Least.ANYONE:
        operation["security"] = []
    elif rule.least in (Least.NODE, Least.MANAGER):
        operation["security"] = [certificate]
    elif rule.least is not Least.ROOT:
        operation["security"] = [{"token": []}, certificate]


def _errors(method: str, path: str, operation: dict[str, Any], rule: Rule) -> list[str]:
    """Give the statuses of errors that are to be expected; others have the form that `default` tells."""
    known = {"503"}
    if "parameters" in operation or "requestBody" in operation:
        known.add("400")
    if rule.least is not Least.ANYONE:
        known |= {"401", "403", "429"}
    if "{" in path:
        known.add("404")
    if method != "get" and not rule.reads:
        known.add("409")
    return sorted(known)


def _error(status: str) -> dict[str, Any]:
    means, kind, message, hint = _ERRORS[status]
    example = {"error": message, "hint": hint, "kind": kind}
    schema = {"$ref": "#/components/schemas/ErrorBody"}
    return {"description": means, "content": {JSON: {"schema": schema, "example": example}}}


def _show(operation: dict[str, Any], example: dict[str, Any]) -> None:
    if "request" in example:
        operation["requestBody"]["content"][JSON]["example"] = example["request"]
    if "answer" in example:
        good = next(answer for status, answer in operation["responses"].items() if status.startswith("2"))
        content = good.setdefault("content", {LINES: {}})
        for told in content.values():
            told["example"] = example["answer"]
