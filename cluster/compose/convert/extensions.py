"""Our own keys of a service, which Docker passes over, such as `x-on-disconnect`."""

from __future__ import annotations

from cluster.compose.convert import deploy
from cluster.compose.convert.field import Field
from cluster.model.service import API, CLIENT_IP, INGRESS_ROUTING, LOCAL_FIRST, MANAGERS, STICKY, OnDisconnect

ON_DISCONNECT = "x-on-disconnect"
MAX_CONCURRENT = "x-max-concurrent"
_ROUTING = {"x-ingress": (INGRESS_ROUTING, LOCAL_FIRST), "x-sticky": (STICKY, CLIENT_IP), "x-managers": (MANAGERS, API)}


def on_disconnect(service: Field) -> OnDisconnect:
    """Read what becomes of tasks on a node that falls silent."""
    field = service[ON_DISCONNECT]
    for key, value in field.entries():
        if key not in OnDisconnect.__slots__:
            raise value.error("the key is unknown", hint=f"{', '.join(OnDisconnect.__slots__)} are known.")
    replace_after = field["replace_after"]
    replace = field["replace"].boolean(True)
    if replace_after.given and not replace:
        raise replace_after.error("tasks that are not replaced are not replaced after a time either")
    return OnDisconnect(replace_after.seconds(), replace, field["stop_after"].seconds())


def max_concurrent(service: Field) -> int | None:
    """Read how many tasks of a job may be under way at a time, None for all."""
    field = service[MAX_CONCURRENT]
    if field.given and not deploy.mode(service["deploy"]).is_job:
        raise field.error("only a job has a bound on what runs at a time", hint="Set deploy.mode: replicated-job.")
    return field.integer(least=1, most=deploy.MOST_REPLICAS)


def routing(service: Field) -> dict[str, str]:
    """Read which tasks answer whom, and whether they reach managers, as labels; none for what is usual."""
    return {label: word for key, (label, word) in _ROUTING.items() if service[key].one_of("", "", word)}
