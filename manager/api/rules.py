"""Who may do what: every route of the API, the least that its caller must be, and what it does as the audit log says.

A route that has no rule here answers nobody. What is kept to some stacks is checked here where the path names a stack,
and by the route itself where that has to be looked up (OWN): what is not a caller's affair is not there for it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Literal, get_args

from fastapi import Depends
from starlette.requests import HTTPConnection

from cluster.errors import Forbidden, Inconsistent, NotFound, Unauthenticated, UserError
from cluster.model.user import UserRole
from manager import audit
from manager.api.callers import ANONYMOUS, Caller, CallerKind
from manager.api.core import Core, core_of
from manager.api.identify import identified


class Least(StrEnum):
    """The least that a caller must be. The roles of users are in order; the others stand alone."""

    ANYONE = "anyone"
    VIEWER = "viewer"
    DEPLOYER = "deployer"
    OPERATOR = "operator"
    ADMIN = "admin"
    ROOT = "root"  # by this manager's UNIX socket
    NODE = "node"
    MANAGER = "manager"


About = Literal["", "stack", "new stack", "own"]
"""What a route is about: the stack that the path names, which is to be there or may be made; what the route itself
finds out to be the caller's; or nothing that anyone is kept from."""

STACK, NEW_STACK, OWN = get_args(About)[1:]


@dataclass(frozen=True, slots=True)
class Rule:
    """`does` is what the audit log calls it; `reads` tells that nothing is changed, whatever the method says.

    What is not there `while_locked` is refused by a manager that nobody has unlocked yet.
    """

    least: Least
    about: About = ""
    does: str = ""
    reads: bool = False
    while_locked: bool = False


_ANYONE = Rule(Least.ANYONE)
_VIEWER = Rule(Least.VIEWER)
_OF_STACK, _OWN = Rule(Least.VIEWER, STACK), Rule(Least.VIEWER, OWN)
_NODE, _MANAGER = Rule(Least.NODE), Rule(Least.MANAGER)

RULES: dict[tuple[str, str], Rule] = {
    ("GET", "/v1/ping"): Rule(Least.ANYONE, while_locked=True),
    ("GET", "/v1/ca"): _ANYONE,
    ("GET", "/v1/ca/bundle"): _ANYONE,
    ("GET", "/v1/ca/rotation"): Rule(Least.OPERATOR),
    ("POST", "/v1/ca/rotation"): Rule(Least.ADMIN, does="ca rotate"),
    ("POST", "/v1/ca/rotation/finish"): Rule(Least.ADMIN, does="ca finish"),
    ("GET", "/v1/life"): _ANYONE,
    ("GET", "/v1/version"): _VIEWER,
    ("GET", "/v1/cluster"): _VIEWER,
    ("GET", "/v1/events"): _OWN,
    ("GET", "/v1/metrics"): _OWN,
    ("GET", "/v1/metrics/tasks"): _OWN,
    ("GET", "/v1/discovery/prometheus"): _OWN,
    ("GET", "/v1/discovery/traefik"): _OWN,
    ("GET", "/v1/networks"): _OWN,
    ("GET", "/v1/networks/convergence"): _VIEWER,
    ("GET", "/v1/networks/{ident}"): _OWN,
    ("GET", "/v1/upgrade"): Rule(Least.OPERATOR),
    ("POST", "/v1/upgrade/finish"): Rule(Least.ADMIN, does="upgrade finish"),
    ("POST", "/v1/networks/{name}/attachments"): Rule(Least.OPERATOR, does="network attach"),
    ("DELETE", "/v1/networks/{name}/attachments/{container}"): Rule(Least.OPERATOR, does="network detach"),
    ("GET", "/v1/backup"): Rule(Least.ROOT, does="backup"),
    # Stacks
    ("GET", "/v1/stacks"): _OWN,
    ("GET", "/v1/stacks/{name}"): _OF_STACK,
    ("GET", "/v1/stacks/{name}/revisions"): _OF_STACK,
    ("GET", "/v1/stacks/{name}/revisions/{n}"): _OF_STACK,
    ("GET", "/v1/stacks/{name}/diff"): _OF_STACK,
    ("GET", "/v1/stacks/{name}/progress"): _OF_STACK,
    ("POST", "/v1/stacks/{name}/plan"): Rule(Least.DEPLOYER, NEW_STACK, reads=True),
    ("PUT", "/v1/stacks/{name}"): Rule(Least.DEPLOYER, NEW_STACK, "deploy"),
    ("POST", "/v1/stacks/{name}/scale"): Rule(Least.DEPLOYER, STACK, "scale"),
    ("POST", "/v1/stacks/{name}/rollback"): Rule(Least.DEPLOYER, STACK, "rollback"),
    ("POST", "/v1/stacks/{name}/update"): Rule(Least.DEPLOYER, STACK, "update"),
    ("POST", "/v1/stacks/{name}/switch"): Rule(Least.DEPLOYER, STACK, "switch"),
    ("DELETE", "/v1/stacks/{name}"): Rule(Least.DEPLOYER, STACK, "remove"),
    ("GET", "/v1/volumes"): _OWN,
    ("GET", "/v1/volumes/{name}"): _OWN,
    ("DELETE", "/v1/volumes/{name}"): Rule(Least.DEPLOYER, OWN, "volume rm"),
    ("GET", "/v1/services"): _OWN,
    ("GET", "/v1/tasks"): _OWN,
    ("GET", "/v1/explain/{name}"): _OWN,
    ("GET", "/v1/usage"): _OWN,
    ("GET", "/v1/logs"): Rule(Least.DEPLOYER, OWN),
    ("GET", "/v1/tasks/{ident}/log"): _MANAGER,
    ("WEBSOCKET", "/v1/tasks/{name}/channels/{purpose}"): Rule(Least.DEPLOYER, OWN, "open"),
    ("WEBSOCKET", "/v1/tasks/{ident}/relayed-channels/{purpose}"): _MANAGER,
    ("POST", "/v1/services/{name}/runs"): Rule(Least.DEPLOYER, OWN, "run"),
    ("WEBSOCKET", "/v1/runs/{name}/channel"): Rule(Least.DEPLOYER, OWN, "attend"),
    ("DELETE", "/v1/runs/{name}"): Rule(Least.DEPLOYER, OWN, "run rm"),
    # Secrets and configs made apart from stacks
    ("GET", "/v1/secrets"): _OWN,
    ("GET", "/v1/configs"): _OWN,
    ("GET", "/v1/secrets/{name}"): _OWN,
    ("GET", "/v1/configs/{name}"): _OWN,
    ("PUT", "/v1/secrets/{name}"): Rule(Least.OPERATOR, does="secret create"),
    ("PUT", "/v1/configs/{name}"): Rule(Least.OPERATOR, does="config create"),
    ("DELETE", "/v1/secrets/{name}"): Rule(Least.OPERATOR, does="secret rm"),
    ("DELETE", "/v1/configs/{name}"): Rule(Least.OPERATOR, does="config rm"),
    ("GET", "/v1/agent/contents/{stack}/{digest}"): _NODE,
    ("POST", "/v1/secrets-key/rotate"): Rule(Least.ADMIN, does="secret rotate-key"),
    ("GET", "/v1/unlock-key"): Rule(Least.ROOT, does="unlock-key show"),
    ("PUT", "/v1/unlock-key"): Rule(Least.ROOT, does="unlock-key set"),
    ("DELETE", "/v1/unlock-key"): Rule(Least.ROOT, does="autolock off"),
    ("POST", "/v1/unlock"): Rule(Least.ROOT, does="unlock", while_locked=True),
    ("GET", "/v1/sealing-keys"): _MANAGER,
    ("POST", "/v1/sealing-keys/{ident}"): Rule(Least.MANAGER, reads=True),
    # Nodes
    ("GET", "/v1/nodes"): _OWN,
    ("GET", "/v1/nodes/{name}"): _OWN,
    ("PATCH", "/v1/nodes/{name}"): Rule(Least.OPERATOR, does="node update"),
    ("DELETE", "/v1/nodes/{name}"): Rule(Least.OPERATOR, does="node rm"),
    ("GET", "/v1/disk"): Rule(Least.OPERATOR),
    ("POST", "/v1/measurements"): Rule(Least.MANAGER, reads=True),
    ("POST", "/v1/doctor"): Rule(Least.OPERATOR, reads=True),
    ("POST", "/v1/examinations"): Rule(Least.MANAGER, reads=True),
    ("GET", "/v1/rebalance"): Rule(Least.OPERATOR),
    ("POST", "/v1/rebalance"): Rule(Least.OPERATOR, does="rebalance"),
    ("POST", "/v1/join"): Rule(Least.ANYONE, does="join"),
    ("GET", "/v1/self"): _NODE,
    ("POST", "/v1/self/certificate"): Rule(Least.NODE, does="node certificate"),
    ("POST", "/v1/self/drain"): Rule(Least.NODE, does="node drain"),
    ("POST", "/v1/self/manager"): Rule(Least.NODE, does="node manager"),
    ("DELETE", "/v1/self"): Rule(Least.NODE, does="node leave"),
    ("WEBSOCKET", "/v1/agent/session"): _NODE,
    ("WEBSOCKET", "/v1/agent/streams/{ticket}"): _NODE,
    # Who may come in
    ("GET", "/v1/join-tokens"): Rule(Least.ROOT, does="token show"),
    ("GET", "/v1/tokens"): Rule(Least.ROOT),
    ("POST", "/v1/tokens"): Rule(Least.ROOT, does="token create"),
    ("POST", "/v1/tokens/{role}/rotate"): Rule(Least.ROOT, does="token rotate"),
    ("DELETE", "/v1/tokens/{ident}"): Rule(Least.ROOT, does="token revoke"),
    ("POST", "/v1/certificates"): Rule(Least.ROOT, does="user certificate"),
    # People
    ("GET", "/v1/me"): _VIEWER,
    ("POST", "/v1/me/certificate"): Rule(Least.VIEWER, does="user certificate"),
    ("GET", "/v1/users"): Rule(Least.ADMIN),
    ("GET", "/v1/users/{name}"): Rule(Least.ADMIN),
    ("POST", "/v1/users"): Rule(Least.ADMIN, does="user create"),
    ("PATCH", "/v1/users/{name}"): Rule(Least.ADMIN, does="user update"),
    ("DELETE", "/v1/users/{name}"): Rule(Least.ADMIN, does="user rm"),
    ("POST", "/v1/users/{name}/tokens"): Rule(Least.ADMIN, does="user token"),
    ("DELETE", "/v1/users/{name}/credentials"): Rule(Least.ADMIN, does="user revoke"),
    ("DELETE", "/v1/users/{name}/credentials/{ident}"): Rule(Least.ADMIN, does="user revoke"),
    ("GET", "/v1/audit"): Rule(Least.DEPLOYER, OWN),
}

_ROLES: tuple[UserRole, ...] = get_args(UserRole)
_KINDS = {Least.NODE: CallerKind.NODE, Least.MANAGER: CallerKind.MANAGER, Least.ROOT: CallerKind.LOCAL}
_HINTS = {
    Least.NODE: "Only agents with a node's certificate come here.",
    Least.MANAGER: "Only managers ask one another this.",
    Least.ROOT: "Ask on a manager's own host, as root, by its UNIX socket.",
}


def rule_of(connection: HTTPConnection) -> Rule:
    """Give the rule of the route that a request has come to. Raises Inconsistent for one that has none."""
    method = connection.scope.get("method", "WEBSOCKET")
    path = connection.scope["route"].path
    rule = RULES.get(("GET" if method == "HEAD" else method, path))
    if rule is None:
        raise Inconsistent(f"the route {method} {path} has no rule, so it is for nobody")
    return rule


def permit(caller: Caller, rule: Rule, path: str, name: str = "") -> None:
    """Raise unless the caller may do that; `name` is that of the stack, for rules about one."""
    if rule.least is Least.ANYONE:
        return
    if caller.kind is CallerKind.ANONYMOUS:
        raise Unauthenticated(
            f"{path} is not for a caller without a certificate or token",
            hint="Use a token or a client certificate of this cluster, or the manager's UNIX socket as root.",
        )
    if rule.least in _KINDS:
        if caller.kind is not _KINDS[rule.least]:
            raise Forbidden(f"{path} is not for {_a(caller)}", hint=_HINTS[rule.least])
        return
    if caller.role is None:
        raise Forbidden(f"{path} is not for {_a(caller)}", hint="It is for people and programs that are users.")
    if _ROLES.index(caller.role) < _ROLES.index(rule.least.value):
        raise Forbidden(
            f"{path} needs the role {rule.least}; {caller.name} is a {caller.role}",
            hint=f"An admin can change that: `stack user update {caller.name} --role {rule.least}`.",
        )
    if rule.about == STACK and not caller.sees(name):
        raise NotFound(f"there is no stack {name}", hint="`stack ls` lists those that there are.")
    if rule.about == NEW_STACK and not caller.sees(name):
        raise Forbidden(
            f"{caller.name} may not deploy the stack {name}", hint=f"It may deploy {', '.join(caller.stacks)}."
        )


def _a(caller: Caller) -> str:
    return f"a {caller.kind} ({caller.name})"


async def permitted(connection: HTTPConnection, core: Annotated[Core, Depends(core_of)]) -> Caller:
    """Find out who is asking, and refuse whoever may not. Every route depends on it, whether or not it says so."""
    rule = rule_of(connection)
    _name(connection, rule.does, ANONYMOUS)
    if not rule.while_locked:
        core.vault.require()
    try:
        caller = identified(connection, core)
    except UserError:
        _name(connection, rule.does or "sign in", ANONYMOUS)
        raise
    _name(connection, rule.does, caller)
    permit(caller, rule, connection.url.path, str(connection.path_params.get("name", "")))
    return caller


def _name(connection: HTTPConnection, does: str, caller: Caller) -> None:
    """Tell the audit log, unless it is about reading."""
    rule, about = rule_of(connection), " ".join(map(str, connection.path_params.values()))
    audit.name(
        kind=caller.kind,
        who=caller.author,
        does=does,
        credential=caller.credential,
        address="" if connection.client is None else connection.client.host,
        about=about,
        stack=about if rule.about in (STACK, NEW_STACK) else "",
    )


Permitted = Annotated[Caller, Depends(permitted)]
