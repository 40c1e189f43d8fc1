"""What only those may deploy who are trusted with the hosts: all that leads out of a container, or into another stack.

A deployer who is kept to some stacks could otherwise have any stack, by a bind mount of / alone. So in a spec of theirs
there may be none of this, unless they are `privileged` or their stack has it already, as somebody else deployed it:
then that service may be scaled, and not changed. Nor may they run commands in such a service's tasks. Pure.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from cluster.channel import Purpose
from cluster.errors import Forbidden
from cluster.model.container import ContainerSpec, FileReference
from cluster.model.network import NetworkSpec
from cluster.model.secret import ConfigSpec, FileKind, SecretSpec
from cluster.model.service import API, MANAGERS, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.task import Task
from cluster.model.user import names_stack
from cluster.model.volume import VolumeSpec
from manager.api.callers import Caller
from manager.picture import ClusterState

DEFAULT_CAPABILITIES = frozenset(
    "AUDIT_WRITE CHOWN DAC_OVERRIDE FOWNER FSETID KILL MKNOD NET_BIND_SERVICE NET_RAW SETFCAP SETGID SETPCAP SETUID"
    " SYS_CHROOT".split()
)
"""What the engine gives each container."""

LOCAL_LOGGING = frozenset(("", "none", "local", "json-file", "journald"))
"""Drivers that talk to nobody: the others connect from the host's own network."""

_HINT = (
    "An operator can deploy it, or an admin trust this user with the hosts: `stack user update {name} --privileged`."
)


def check(state: ClusterState, caller: Caller, spec: StackSpec, *, digests: bool = True) -> None:
    """Raise Forbidden, with the field, for a spec that the caller may not deploy.

    Without `digests`, those of secrets and configs are not in the spec yet.
    """
    if not caller.is_kept or caller.privileged:
        return
    stack = state.stacks.get(spec.name)
    head = None if stack is None else state.head(stack.uid)
    for field, what in _new(state, caller, spec, None if head is None else head.spec, digests):
        raise Forbidden(f"{field}: {caller.name} may not deploy {what}", hint=_HINT.format(name=caller.name))


def check_channel(state: ClusterState, caller: Caller, task: Task, purpose: Purpose) -> None:
    """Raise Forbidden for running a command, or writing a file, in a container that leads to its host."""
    spec = state.spec_of(task)
    if spec is not None and purpose not in ("port", "signal"):
        check_entry(caller, spec)


def check_entry(caller: Caller, spec: ServiceSpec) -> None:
    """Raise Forbidden for running a command of one's choice in a service's container if that leads to its host."""
    if not caller.is_kept or caller.privileged:
        return
    for field, what in of_container(spec.container):
        raise Forbidden(
            f"{caller.name} may not enter tasks of {spec.name}: it has {field}, {what}",
            hint=_HINT.format(name=caller.name),
        )


def _new(
    state: ClusterState, caller: Caller, spec: StackSpec, head: StackSpec | None, digests: bool
) -> Iterator[tuple[str, str]]:
    for name, service in spec.services.items():
        known = None if head is None else head.services.get(name)
        if known is not None and _core(service, digests) == _core(known, digests):
            continue
        for field, what in of_container(service.container):
            yield f"services.{name}.{field}", what
        if service.labels.get(MANAGERS) == API:
            yield f"services.{name}.x-managers", "what reaches the managers"
    for key, volume in spec.volumes.items():
        if head is None or head.volumes.get(key) != volume:
            if what := _of_volume(state, spec.name, volume):
                yield f"volumes.{key}", what
    for key, network in spec.networks.items():
        if head is None or head.networks.get(key) != network:
            if what := _of_network(state, caller, network):
                yield f"networks.{key}", what
    yield from _of_externals(state, spec.name, "secret", spec.secrets, {} if head is None else head.secrets)
    yield from _of_externals(state, spec.name, "config", spec.configs, {} if head is None else head.configs)


def _core(service: ServiceSpec, digests: bool) -> ServiceSpec:
    """Leave out what may change: how many tasks there are."""

    def plain(files: tuple[FileReference, ...]) -> tuple[FileReference, ...]:
        return files if digests else tuple(replace(file, digest="", templated=False) for file in files)

    given = service.container
    container = replace(given, secrets=plain(given.secrets), configs=plain(given.configs))
    return replace(service, replicas=0, container=container)


def of_container(container: ContainerSpec) -> Iterator[tuple[str, str]]:
    """Give the fields that lead out of a container, and what each is in words."""
    capabilities = {name.upper().removeprefix("CAP_") for name in container.cap_add}
    options = [text for text in container.security_opt if not text.startswith("no-new-privileges")]
    asked: dict[str, tuple[bool, str]] = {
        "privileged": (container.privileged, "privileged containers"),
        "volumes": (any(mount.type == "bind" for mount in container.mounts), "bind mounts of a host's files"),
        "cap_add": (bool(capabilities - DEFAULT_CAPABILITIES), "more capabilities than the engine's own"),
        "security_opt": (bool(options), "other security options than no-new-privileges"),
        "devices": (bool(container.devices or container.device_cgroup_rules), "devices of a host"),
        "gpus": (any(one.driver == "cdi" for one in container.device_requests), "devices of a host by CDI"),
        "runtime": (bool(container.runtime), "a runtime other than the engine's own"),
        "annotations": (bool(container.annotations), "annotations, which runtimes act on"),
        "network_mode": (container.network_mode == "host", "the host's network"),
        "pid": (bool(container.pid), "the host's or another container's processes"),
        "ipc": (container.ipc not in ("", "none", "private", "shareable"), "the host's or another container's memory"),
        "uts": (bool(container.uts), "the host's name"),
        "userns_mode": (bool(container.userns_mode), "the host's users"),
        "cgroup": (container.cgroup not in ("", "private"), "the host's control groups"),
        "cgroup_parent": (bool(container.cgroup_parent), "a control group of its choice"),
        "oom_score_adj": ((container.oom_score_adj or 0) < 0, "a place before the host's own programs"),
        "oom_kill_disable": (container.oom_kill_disable, "containers that a full host cannot end"),
        "cpu_rt_runtime": (bool(container.cpu_rt_runtime), "real-time scheduling"),
        "logging": (
            container.logging is not None and container.logging.driver not in LOCAL_LOGGING,
            "logging that connects from the host",
        ),
    }
    return ((field, what) for field, (there, what) in asked.items() if there)


def _of_volume(state: ClusterState, stack: str, volume: VolumeSpec) -> str:
    if volume.driver not in ("", "local") or volume.driver_options:
        return "volumes with a driver or options, which can mount any file of a host"
    if volume.external or volume.name != f"{stack}_{volume.key}" or "{{" in volume.name:
        return "volumes that are not the stack's own"
    owner = state.volumes.get(volume.name)
    for other in (one for one in state.stacks.values() if one.name != stack):
        head = state.head(other.uid)
        named = head is not None and any(one.name == volume.name for one in head.spec.volumes.values())
        if named or (owner is not None and owner.stack_uid == other.uid):
            return f"the volume {volume.name} of another stack"
    return ""


def _of_network(state: ClusterState, caller: Caller, network: NetworkSpec) -> str:
    if not network.external:
        return ""
    for ident in state.networks_named.get(network.name, ()):
        stack = state.stack_names.get(state.networks[ident].stack_uid, "")
        if not stack or not caller.sees(stack):
            return f"into the network {network.name} of another stack"
    return ""


def _of_externals(
    state: ClusterState,
    stack: str,
    kind: FileKind,
    asked: dict[str, SecretSpec] | dict[str, ConfigSpec],
    had: dict[str, SecretSpec] | dict[str, ConfigSpec],
) -> Iterator[tuple[str, str]]:
    """Give the externals that neither are for this stack nor were in it before."""
    before = {said.name for said in had.values() if said.external}
    for key, said in asked.items():
        external = state.externals.get(f"{kind}.{said.name}")
        if said.external and said.name not in before and not (external and names_stack(external.stacks, stack)):
            yield f"{kind}s.{key}", f"the external {kind} {said.name} in {stack}"
