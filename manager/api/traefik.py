"""The dynamic configuration that Traefik's HTTP provider reads, made of the labels of services. Pure.

Names are each stack's own: where two have the same, each one's routers lead to its own services and middlewares, and to
Traefik they are STACK.NAME, which no label can say. What cannot be read is left out, and `stack explain` tells of it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from cluster.model.service import ServiceSpec
from cluster.traefik import Element, Parts, enabled, faults, read
from cluster.views import Trouble
from manager.picture import ClusterState

SERVERS = "servers"
_OURS = "@http"
"""What a name may end with to say by which provider Traefik knows it."""


@dataclass(slots=True)
class _Stack:
    """What the services of one stack tell; `by` names the service that first said something of an element."""

    parts: Parts = field(default_factory=dict)
    by: dict[Element, str] = field(default_factory=dict)
    twice: list[tuple[Element, str]] = field(default_factory=list)
    """What a second service says otherwise, which does not count."""

    def add(self, element: Element, options: dict[str, Any], service: str) -> None:
        """Take it if nobody said otherwise; servers of services that are alike in all else are put together."""
        held: Any = self.parts.get(element)
        if held is None:
            self.parts[element], self.by[element] = options, service
        elif _but_servers(held) != _but_servers(options):
            self.twice.append((element, service))
        elif element[1] == "services":
            held["loadBalancer"][SERVERS] += options["loadBalancer"][SERVERS]


def configuration(
    running: Iterable[tuple[str, ServiceSpec, str]], *, unknown: bool = False
) -> dict[str, dict[str, dict[str, object]]]:
    """Give what Traefik reads: of each task that is ready its stack's name, its service and its address.

    With `unknown`, options that Traefik is not known to have are in it, too.

    Only services with `traefik.enable=true` count. The servers of a service of Traefik's are our ready tasks, at the
    port of its `loadbalancer.server.port`; a router without a `service` leads to the only one.
    """
    found: dict[tuple[str, str], tuple[ServiceSpec, list[str]]] = {}
    for stack, spec, address in running:
        if enabled(spec.labels):
            found.setdefault((stack, spec.name), (spec, []))[1].append(address)
    stacks: dict[str, _Stack] = {}
    for (stack, _), (spec, addresses) in found.items():
        _tell(stacks.setdefault(stack, _Stack()), stack, spec, addresses, unknown)
    counts = Counter(element for stack in stacks.values() for element in stack.parts)
    told: dict[str, dict[str, dict[str, object]]] = {}
    for name, stack_parts in stacks.items():
        shared = {element for element in stack_parts.parts if counts[element] > 1}
        for element, options in stack_parts.parts.items():
            protocol, part, known = element
            called = f"{name}.{known}" if element in shared else known
            told.setdefault(protocol, {}).setdefault(part, {})[called] = _leading(protocol, options, name, shared)
    return told


def troubles(state: ClusterState, stack: str, spec: ServiceSpec) -> Iterator[Trouble]:
    """Tell which labels of a service come to nothing."""
    for fault in faults(spec.labels):
        yield Trouble(f"label {fault.label}", fault.what, fault.hint)
    uid = next((found.uid for found in state.stacks.values() if found.name == stack), "")
    together = _Stack()
    head = state.head(uid)
    for other in sorted((head.spec.services if head else {}).values(), key=lambda one: one.name):
        if enabled(other.labels):
            _tell(together, stack, other, [], unknown=False)
    for (protocol, part, name), service in together.twice:
        if service == spec.name:
            first = together.by[protocol, part, name]
            why = f"{first} tells otherwise of it, and comes first: what this service tells does not count"
            yield Trouble(f"label traefik.{protocol}.{part}.{name}", why, "give it another name, or the same options")


def _tell(stack: _Stack, name: str, spec: ServiceSpec, addresses: Iterable[str], unknown: bool) -> None:
    parts, wrong = read(spec.labels, unknown=unknown)
    given = {(protocol, part) for protocol, part, _ in (*parts, *(fault.element for fault in wrong if fault.element))}
    for protocol in ("http", "tcp", "udp"):
        kind = (protocol, "services")
        services = {element[2]: options for element, options in parts.items() if element[:2] == kind}
        if kind not in given and (protocol, "routers") in given:
            services[f"{name}_{spec.name}"] = {}
        for named, options in services.items():
            stack.add((protocol, "services", named), _service(protocol, options, addresses), spec.name)
        for element, options in parts.items():
            if element[:2] == (protocol, "routers"):
                spoilt = (one.element[2] for one in wrong if one.element and one.element[:2] == kind)
                only = next(iter(services), None) or next(spoilt, "")
                stack.add(element, {"service": only} | options, spec.name)
            elif element[:2] == (protocol, "middlewares"):
                stack.add(element, options, spec.name)


def _service(protocol: str, options: Mapping[str, Any], addresses: Iterable[str]) -> dict[str, Any]:
    balancer = dict(options.get("loadbalancer", {}))
    server = dict(balancer.pop("server", {}))
    port, scheme = server.pop("port", 80), server.pop("scheme", "http")
    balancer[SERVERS] = [
        ({"url": f"{scheme}://{address}:{port}"} if protocol == "http" else {"address": f"{address}:{port}"}) | server
        for address in addresses
    ]
    return {"loadBalancer": balancer}


def _but_servers(options: Mapping[str, Any]) -> object:
    balancer = options.get("loadBalancer")
    return options if balancer is None else {key: value for key, value in balancer.items() if key != SERVERS}


def _leading(protocol: str, options: Mapping[str, Any], stack: str, shared: Iterable[Element]) -> dict[str, Any]:
    """Have what is said lead to the stack's own services and middlewares, whatever they are called to Traefik."""
    names = {(part, name): f"{stack}.{name}" for of, part, name in shared if of == protocol}

    def own(part: str, name: str) -> str:
        return names.get((part, name.removesuffix(_OURS)), name)

    told = dict(options)
    for key, value in options.items():
        if key == "service":
            told[key] = own("services", value)
        elif key == "middlewares":
            told[key] = [own("middlewares", one) for one in value]
        elif key in ("chain", "errors"):
            told[key] = _leading(protocol, value, stack, shared)
    return told
