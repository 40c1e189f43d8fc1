"""Published ports: each number is held by a claim of its service, made before anything is led there, and let go after.

A port that asks for no number gets one that is free, and keeps it for as long as the service publishes that port of its
containers; the claim says which one it is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.codec import key_for
from cluster.model.cluster import Claim
from cluster.model.service import PortSpec, ServiceSpec
from cluster.model.stack import Stack
from manager.decide.allocator import NoRoom, PortAllocator
from manager.decide.plan import Draft
from manager.decide.slots import ServicePicture
from manager.picture import ClusterState, claim_key


def published(state: ClusterState, service_uid: str, spec: ServiceSpec) -> tuple[PortSpec, ...]:
    """Give the ports of a service with the numbers that were given out; one that has none yet keeps its 0."""
    if all(port.published for port in spec.ports):
        return spec.ports
    given = _given(state, service_uid, spec)
    return tuple(
        port if port.published else replace(port, published=given.get((port.protocol, port.target), 0))
        for port in spec.ports
    )


def settle(picture: ServicePicture, draft: Draft) -> str:
    """Hold the ports that a service publishes, let go of others; tell who has one that it cannot get."""
    state, service, spec = picture.state, picture.service, picture.spec
    guards = [key_for(Stack, service.stack)]
    ports = [port for port in published(state, service.uid, spec) if port.mode == "ingress"]
    wanted = {name_of(port) for port in ports if port.published}
    problems = []
    for name in sorted(wanted):
        holder = state.claims.get(claim_key("port", name))
        if holder is None:
            draft.step(f"publish port {name}", puts=[Claim("port", name, service.uid)], guards=guards)
        elif holder.owner != service.uid:
            other = state.services.get(holder.owner)
            problems.append(f"port {name} is published by {other.full_name if other else holder.owner}")
    allocator = PortAllocator(state)
    for port in ports:
        try:
            if not port.published:
                claim = allocator.port(port.protocol, port.target, service.uid)
                draft.step(f"give out port {claim.name} for {port.target}", puts=[claim], guards=guards)
        except NoRoom as problem:
            problems.append(f"port {port.protocol}/{port.target} gets no number: {problem}")
    for key in sorted(state.claims_of.get(service.uid, ())):
        if state.claims[key].kind == "port" and state.claims[key].name not in wanted:
            draft.step(f"give up {key}", deletes=[key], guards=guards)
    return "; ".join(problems)


def troubles(state: ClusterState, service_uid: str, spec: ServiceSpec) -> Iterator[tuple[PortSpec, str, str]]:
    """Give the ports on which nothing leads to a service: why, and what would change that."""
    allocator = PortAllocator(state)
    for port in published(state, service_uid, spec):
        if port.mode != "ingress":
            continue
        holder = state.claims.get(claim_key("port", name_of(port)))
        if port.published and holder is not None and holder.owner != service_uid:
            other = state.services.get(holder.owner)
            whom = other.full_name if other is not None else holder.owner
            yield port, f"{whom} publishes it", f"publish another port, or take it from {whom}"
        elif not port.published:
            try:
                allocator.port(port.protocol, port.target, service_uid)
            except NoRoom as problem:
                yield port, str(problem), problem.remedy


def name_of(port: PortSpec) -> str:
    """Name a published port as its claim does."""
    return f"{port.protocol}/{port.published}"


def _given(state: ClusterState, service_uid: str, spec: ServiceSpec) -> dict[tuple[str, int], int]:
    """Give the numbers that a service was given, by protocol and port of the container; none that it asks for now."""
    asked = {name_of(port) for port in spec.ports}
    found: dict[tuple[str, int], int] = {}
    for key in sorted(state.claims_of.get(service_uid, ())):
        claim = state.claims[key]
        if claim.kind == "port" and claim.target and claim.name not in asked:
            protocol, _, number = claim.name.partition("/")
            found.setdefault((protocol, claim.target), int(number))
    return found
