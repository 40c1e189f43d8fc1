"""The `deploy` part of a service, but for its placement: replicas, limits, restarts, labels."""

from __future__ import annotations

from cluster.compose import units, values
from cluster.compose.tree import Mapping, Node, Scalar
from cluster.model.service import Resources, RestartCondition, RestartPolicy

MOST_REPLICAS = 100_000
_RESERVED = "com.stackyard."
_RESTART_WORDS = {
    "no": RestartCondition.NONE,
    "always": RestartCondition.ANY,
    "unless-stopped": RestartCondition.ANY,
    "on-failure": RestartCondition.ON_FAILURE,
}
_SMALLEST_MEMORY = 6 * 2**20


def labels(node: Node | None) -> dict[str, str]:
    """Read labels, of a container or a service; names that we use ourselves are refused."""
    for name, value in values.mapping(node).entries.items():
        if not name or name.startswith(_RESERVED):
            raise value.where.error(f"the label {name[:60]!r} is reserved" if name else "a label without a name")
    return values.pairs(node)


def replicas(deploy: Mapping) -> int:
    """Read how many tasks are wanted, 1 if not told."""
    mode = deploy.get("mode")
    if mode is not None and (word := values.text(mode)) != "replicated":
        raise mode.where.error(f"the mode {word[:20]!r} is not supported: this version only has replicated services")
    endpoint = deploy.get("endpoint_mode")
    if endpoint is not None and (word := values.text(endpoint)) != "vip":
        raise endpoint.where.error(
            f"the endpoint mode {word[:20]!r} is not supported: every service has a virtual IP address",
            hint="The name tasks.SERVICE gives the addresses of its tasks.",
        )
    node = deploy.get("replicas")
    return values.integer(node, least=0, most=MOST_REPLICAS) if node else 1


def resources(deploy: Mapping) -> Resources:
    """Read the upper limits of one task."""
    limits = values.mapping(values.mapping(deploy.get("resources")).get("limits"))
    cpus, memory, pids = limits.get("cpus"), limits.get("memory"), limits.get("pids")
    size = units.size(memory) if memory else 0
    if memory and 0 < size < _SMALLEST_MEMORY:
        raise memory.where.error("the engine gives a container no less than 6 MiB of memory")
    count = values.integer(pids, least=-1) if pids else 0
    return Resources(
        nano_cpus=(units.nano_cpus(cpus) or None) if cpus else None,
        memory=size or None,
        pids=count if count > 0 else None,
    )


def restart_policy(deploy: Mapping, restart: Node | None) -> RestartPolicy:
    """Read `deploy.restart_policy`, or else the short `restart` of the service."""
    policy_node = deploy.get("restart_policy")
    if policy_node is None:
        return _short(restart) if restart else RestartPolicy()
    policy = values.mapping(policy_node)
    condition, delay = policy.get("condition"), policy.get("delay")
    attempts, window = policy.get("max_attempts"), policy.get("window")
    return RestartPolicy(
        condition=RestartCondition(values.one_of(condition, *RestartCondition)) if condition else RestartCondition.ANY,
        delay=units.duration(delay) if delay else None,
        max_attempts=(values.integer(attempts, least=0) or None) if attempts else None,
        window=units.duration(window) if window else 0.0,
    )


def _short(node: Node) -> RestartPolicy:
    if isinstance(node, Scalar) and node.value is False:  # `no` that a tool wrote as a truth value
        return RestartPolicy(RestartCondition.NONE)
    word, colon, count = values.text(node).partition(":")
    condition = _RESTART_WORDS.get(word)
    if condition is None or (colon and (condition is not RestartCondition.ON_FAILURE or not count.isdecimal())):
        raise node.where.error(
            f"{values.text(node)[:40]!r} is no restart policy", hint="no, always, unless-stopped, on-failure[:N] are."
        )
    return RestartPolicy(condition, max_attempts=int(count[:9]) or None if colon else None)
