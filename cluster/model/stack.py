"""Stacks and their numbered, immutable revisions."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.model.network import NetworkSpec
from cluster.model.secret import ConfigSpec, SecretSpec
from cluster.model.service import ServiceSpec
from cluster.model.volume import VolumeSpec


@dataclass(frozen=True, slots=True)
class StackSpec:
    """A whole stack as converted from Compose, keyed as in the files."""

    name: str
    services: dict[str, ServiceSpec]
    networks: dict[str, NetworkSpec] = field(default_factory=dict)
    volumes: dict[str, VolumeSpec] = field(default_factory=dict)
    secrets: dict[str, SecretSpec] = field(default_factory=dict)
    configs: dict[str, ConfigSpec] = field(default_factory=dict)

    def file_digests(self) -> tuple[dict[str, str], dict[str, str]]:
        """Give the digests of the contents that its services use: of secrets and of configs, by key."""
        used = [service.container for service in self.services.values()]
        secrets = {file.source: file.digest for container in used for file in container.secrets if file.digest}
        configs = {file.source: file.digest for container in used for file in container.configs if file.digest}
        return secrets, configs

    def digests(self) -> frozenset[str]:
        """Name all contents that its services use."""
        secrets, configs = self.file_digests()
        return frozenset(secrets.values()) | frozenset(configs.values())


@dataclass(frozen=True, slots=True)
class ServiceVersion:
    """`uid` is random, made when the service first appears; `version` is the revision that last needed new tasks.

    `rollback` tells that going back led to it. `attempt` is raised to have a paused update go on.
    """

    uid: str
    version: int
    rollback: bool = False
    attempt: int = 0


@dataclass(frozen=True, slots=True)
class StackRevision:
    """One deploy, scale or rollback: immutable once written. `operation`, the caller's id, settles lost answers.

    If it is `atomic`, one service whose update fails takes all that it changed back with it. `image_digests` tells, by
    service, what the images' tags meant to their registries; those of which nobody knew are left out. `image_platforms`
    tells, by service, for which platforms (`linux/amd64`, `linux/arm64/v8`) there is an image of that digest; one that
    is left out may run anywhere.
    """

    stack_uid: str
    n: int
    spec: StackSpec
    services: dict[str, ServiceVersion]
    author: str
    reason: str
    created_at: float
    operation: str
    image_digests: dict[str, str] = field(default_factory=dict)
    secret_digests: dict[str, str] = field(default_factory=dict)
    config_digests: dict[str, str] = field(default_factory=dict)
    atomic: bool = False
    image_platforms: dict[str, tuple[str, ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Stack:
    """Points at its newest revision. `removing` is final: the leader deletes the stack when the last task has gone."""

    uid: str
    name: str
    head: int
    operation: str
    removing: bool = False
    remove_volumes: bool = False
