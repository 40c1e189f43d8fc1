"""The `deploy` part of a service, but for its placement: mode, replicas, resources, restarts, updates."""

from __future__ import annotations

from typing import Literal

from cluster.compose.convert.field import Field
from cluster.model.service import (
    FailureAction,
    Reservations,
    Resources,
    RestartCondition,
    RestartPolicy,
    ServiceMode,
    UpdateConfig,
)

MOST_REPLICAS = 100_000
_SMALLEST_MEMORY = 6 * 2**20
_MOST_NAMED = 1_000_000
_RESTART_WORDS = {
    "no": RestartCondition.NONE,
    "always": RestartCondition.ANY,
    "unless-stopped": RestartCondition.ANY,
    "on-failure": RestartCondition.ON_FAILURE,
}
_CONDITIONS = {**{str(condition): condition for condition in RestartCondition}, **_RESTART_WORDS}
_GLOBAL = (ServiceMode.GLOBAL, ServiceMode.GLOBAL_JOB)


def mode(deploy: Field) -> ServiceMode:
    return ServiceMode(deploy["mode"].one_of("", "", *ServiceMode) or ServiceMode.REPLICATED)


def replicas(service: Field) -> int:
    """Read how many tasks are wanted, 1 if not told; the global modes take no number."""
    deploy = service["deploy"]
    told = deploy["replicas"] if deploy["replicas"].given else service["scale"]
    if told.given and mode(deploy) in _GLOBAL:
        raise told.error(f"a {mode(deploy)} service has a task on every node, and no number of them")
    wanted = told.integer(least=0, most=MOST_REPLICAS)
    return 1 if wanted is None else wanted


def endpoint_mode(deploy: Field) -> Literal["vip", "dnsrr"]:
    """Read it; the ports of a service without a virtual address can only be published on the tasks' own nodes."""
    word = deploy["endpoint_mode"].text().lower()
    if word not in ("", "vip", "dnsrr"):
        raise deploy["endpoint_mode"].error(f"{word[:20]!r} is neither vip nor dnsrr")
    return "dnsrr" if word == "dnsrr" else "vip"


def resources(service: Field) -> Resources:
    """Read the upper limits of one task, from `deploy` or from the older keys that mean the same."""
    limits = service["deploy"]["resources"]["limits"]
    memory = _either(limits["memory"], service["mem_limit"])
    size = memory.integer(least=0)
    if size and size < _SMALLEST_MEMORY:
        raise memory.error("the engine gives a container no less than 6 MiB of memory")
    pids = _either(limits["pids"], service["pids_limit"]).integer(least=-1) or 0
    return Resources(
        nano_cpus=_either(limits["cpus"], service["cpus"]).nano_cpus() or None,
        memory=size or None,
        pids=pids if pids > 0 else None,
    )


def reservations(service: Field) -> Reservations:
    """Read what is kept free for one task."""
    wanted = service["deploy"]["resources"]["reservations"]
    generic: dict[str, int] = {}
    for item in wanted["generic_resources"].items():
        discrete = item["discrete_resource_spec"]
        kind, count = discrete["kind"].text(), discrete["value"].integer(least=0, most=_MOST_NAMED)
        if not kind or count is None:
            raise item.error("a generic resource has a kind and a value", hint="Write kind: gpu and value: 1.")
        generic[kind] = generic.get(kind, 0) + count
    return Reservations(
        nano_cpus=wanted["cpus"].nano_cpus(),
        memory=_either(wanted["memory"], service["mem_reservation"]).integer(least=0) or 0,
        generic=generic,
    )


def _either(first: Field, second: Field) -> Field:
    return first if first.given else second


def restart_policy(service: Field) -> RestartPolicy:
    """Read `deploy.restart_policy`, or else the short `restart` of the service."""
    policy = service["deploy"]["restart_policy"]
    if not policy.given:
        return _short(service["restart"])
    condition = policy["condition"].one_of("", "", *_CONDITIONS)
    return RestartPolicy(
        condition=_CONDITIONS[condition] if condition else RestartCondition.ANY,
        delay=policy["delay"].seconds(),
        max_attempts=policy["max_attempts"].integer(least=0) or None,
        window=policy["window"].seconds() or 0.0,
    )


def _short(field: Field) -> RestartPolicy:
    written = field.text()
    if not written:
        return RestartPolicy()
    word, colon, count = ("no" if field.value is False else written).partition(":")
    condition = _RESTART_WORDS.get(word)
    if condition is None or (colon and (condition is not RestartCondition.ON_FAILURE or not count.isdecimal())):
        raise field.error(
            f"{written[:40]!r} is no restart policy", hint="no, always, unless-stopped, on-failure[:N] are."
        )
    return RestartPolicy(condition, max_attempts=int(count[:9]) or None if colon else None)


def update_config(field: Field) -> UpdateConfig:
    """Read `update_config` or `rollback_config`; what is missing is as in a swarm."""
    default = UpdateConfig()
    parallelism = field["parallelism"].integer(least=0, most=MOST_REPLICAS)
    delay, monitor = field["delay"].seconds(), field["monitor"].seconds()
    ratio = field["max_failure_ratio"]
    if not 0 <= ratio.number() <= 1:
        raise ratio.error(f"{ratio.text()} is out of range: it must be between 0 and 1")
    actions = [action for action in FailureAction if action != "rollback" or field.path[-1] != "rollback_config"]
    action = field["failure_action"].one_of("", "", *actions)
    order = field["order"].one_of("", "", "stop-first", "start-first")
    return UpdateConfig(
        parallelism=default.parallelism if parallelism is None else parallelism,
        delay=delay or 0.0,
        monitor=default.monitor if monitor is None else monitor,
        failure_action=FailureAction(action) if action else default.failure_action,
        max_failure_ratio=ratio.number(),
        order="start-first" if order == "start-first" else "stop-first",
    )
