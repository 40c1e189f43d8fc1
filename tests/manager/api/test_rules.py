"""Every route has a rule, and every rule a route; what the roles may, as a table."""

from __future__ import annotations

from typing import Any, cast

import pytest
from fastapi.routing import APIRoute, APIWebSocketRoute, iter_route_contexts

from cluster.errors import Forbidden, NotFound, StackyardError, Unauthenticated
from manager.api.app import create_app
from manager.api.callers import ANONYMOUS, LOCAL, Caller, CallerKind
from manager.api.rules import RULES, Least, permit

APP = create_app(cast(Any, None))

ANN = Caller(CallerKind.CLIENT, "ann", "deployer", ("shop", "team-*"))
CALLERS = {
    "anonymous": ANONYMOUS,
    "node": Caller(CallerKind.NODE, "n1"),
    "manager": Caller(CallerKind.MANAGER, "m1"),
    "viewer": Caller(CallerKind.CLIENT, "vic", "viewer", ("*",)),
    "deployer": ANN,
    "operator": Caller(CallerKind.CLIENT, "olga", "operator"),
    "admin": Caller(CallerKind.CLIENT, "ada", "admin"),
    "root": LOCAL,
}
PEOPLE = ("viewer", "deployer", "operator", "admin", "root")
MAY = {
    Least.ANYONE: tuple(CALLERS),
    Least.VIEWER: PEOPLE,
    Least.DEPLOYER: PEOPLE[1:],
    Least.OPERATOR: PEOPLE[2:],
    Least.ADMIN: PEOPLE[3:],
    Least.ROOT: ("root",),
    Least.NODE: ("node",),
    Least.MANAGER: ("manager",),
}


def routes() -> set[tuple[str, str]]:
    found = set()
    for context in iter_route_contexts(APP.routes):
        match context.route:
            case APIRoute(path=path, methods=methods):
                found |= {(method, path) for method in methods or ()}
            case APIWebSocketRoute(path=path):
                found.add(("WEBSOCKET", path))
    return found


def test_the_api_page_tells_of_no_route_without_a_rule() -> None:
    told = {(method.upper(), path) for path, methods in APP.openapi()["paths"].items() for method in methods}
    assert len(told) > 50
    assert told - RULES.keys() == set()


def test_no_route_is_without_a_rule_and_no_rule_without_a_route() -> None:
    assert routes() == RULES.keys()


def test_whatever_changes_something_is_called_something_in_the_audit_log() -> None:
    for (method, path), rule in RULES.items():
        if method not in ("GET", "WEBSOCKET"):
            assert bool(rule.does) is not rule.reads, (method, path)


def test_what_names_a_stack_is_for_its_own_people() -> None:
    """Whoever is kept to some stacks comes to nothing else: each of their routes says how that is seen to."""
    open_to_all = {"/v1/version", "/v1/cluster", "/v1/networks/convergence", "/v1/me", "/v1/me/certificate"}
    for (_, path), rule in RULES.items():
        if rule.least in (Least.VIEWER, Least.DEPLOYER) and not rule.about:
            assert path in open_to_all, path


@pytest.mark.parametrize("least", Least)
@pytest.mark.parametrize("who", CALLERS)
def test_roles(least: Least, who: str) -> None:
    rules = [rule for rule in RULES.values() if rule.least is least]
    assert rules
    for rule in rules:
        wrong: type[StackyardError] | None = None
        try:
            permit(CALLERS[who], rule, "/v1/x", "shop")
        except StackyardError as error:
            assert error.hint
            wrong = type(error)
        expected = None if who in MAY[least] else Unauthenticated if who == "anonymous" else Forbidden
        assert wrong is expected, (rule, who)


@pytest.mark.parametrize(
    ("stack", "seen"),
    [("shop", True), ("team-a", True), ("team-", True), ("shop2", False), ("ateam-a", False), ("", False)],
)
def test_a_deployer_comes_to_its_stacks_alone(stack: str, seen: bool) -> None:
    assert ANN.sees(stack) is seen
    scale, deploy = RULES["POST", "/v1/stacks/{name}/scale"], RULES["PUT", "/v1/stacks/{name}"]
    if seen:
        permit(ANN, scale, "/v1/x", stack)
        permit(ANN, deploy, "/v1/x", stack)
        return
    with pytest.raises(NotFound, match="there is no stack"):
        permit(ANN, scale, "/v1/x", stack)
    with pytest.raises(Forbidden, match="may not deploy the stack"):
        permit(ANN, deploy, "/v1/x", stack)
