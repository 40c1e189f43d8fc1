"""A whole project to a StackSpec, named as `docker stack deploy` names things; what must fit together is checked."""

from __future__ import annotations

from collections.abc import Mapping

from cluster.compose import names
from cluster.compose.convert import networks, service
from cluster.compose.convert.field import Field
from cluster.compose.convert.judge import Written, allowed
from cluster.compose.convert.naming import labels, naming
from cluster.model.secret import ConfigSpec, SecretSpec
from cluster.model.service import PortSpec, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.model.volume import VolumeSpec


def convert(project: Written) -> StackSpec:
    """Convert to what the cluster runs; networks and volumes that no service names are left out.

    Raises ComposeError, which tells of all refused keys at once.
    """
    root = Field(allowed(project), (), project)
    stack = names.check_stack(project.name, project.where("name"))
    definitions = networks.definitions(root["networks"], stack)
    volumes = {key: _volume(field, stack) for key, field in root["volumes"].entries()}
    secrets = {key: _secret(field, stack) for key, field in root["secrets"].entries()}
    configs = {key: _config(field, stack) for key, field in root["configs"].entries()}
    declared = dict(root["services"].entries())
    if not declared:
        raise root["services"].error("there are no services", hint="Add one under services, or ask for its profile.")
    around = service.Surroundings(
        stack=stack,
        networks=definitions,
        volumes={key: volume.name for key, volume in volumes.items()},
        secrets=frozenset(secrets),
        configs=frozenset(configs),
    )
    written = Field(project.tree, (), project)["services"]
    services = {key: service.convert(key, field, written[key], around) for key, field in declared.items()}
    services = networks.named(services, declared)
    _check_dependencies(services, declared)
    _check_ports(services, declared)
    used_networks = {attachment.network for s in services.values() for attachment in s.networks}
    used_volumes = {name for s in services.values() for name in s.volume_names}
    return StackSpec(
        name=stack,
        services=services,
        networks={key: definitions[key] for key in sorted(used_networks)},
        volumes={key: volume for key, volume in sorted(volumes.items()) if volume.name in used_volumes},
        secrets=dict(sorted(secrets.items())),
        configs=dict(sorted(configs.items())),
    )


def _volume(field: Field, stack: str) -> VolumeSpec:
    called = naming(field, stack, "volume")
    driver = field["driver"].text()
    return VolumeSpec(
        key=str(field.path[-1]),
        name=called.name,
        external=called.external,
        driver="" if driver == "local" else driver,
        driver_options={key: value.template() for key, value in field["driver_opts"].entries()},
        labels={key: field["labels"][key].template() for key in labels(field["labels"])},
    )


def _secret(field: Field, stack: str) -> SecretSpec:
    called = naming(field, stack, "secret")
    return SecretSpec(
        key=str(field.path[-1]),
        name=called.name,
        external=called.external,
        labels=labels(field["labels"]),
        template_driver="golang" if field["template_driver"].one_of("", "", "golang") else "",
    )


def _config(field: Field, stack: str) -> ConfigSpec:
    called = naming(field, stack, "config")
    return ConfigSpec(
        key=str(field.path[-1]),
        name=called.name,
        external=called.external,
        labels=labels(field["labels"]),
        template_driver="golang" if field["template_driver"].one_of("", "", "golang") else "",
    )


def _check_dependencies(services: Mapping[str, ServiceSpec], declared: Mapping[str, Field]) -> None:
    for key, spec in services.items():
        for other, dependency in spec.depends_on.items():
            if other not in services and dependency.required:
                field = declared[key]["depends_on"][other]
                raise field.error(f"there is no service {other[:60]!r}", hint="Write required: false if that is fine.")


def _check_ports(services: Mapping[str, ServiceSpec], declared: Mapping[str, Field]) -> None:
    """A port that is published on every node can lead to one service only."""
    taken: dict[tuple[int, str], tuple[str, PortSpec]] = {}
    for key, spec in services.items():
        for port in filter(lambda port: port.published, spec.ports):
            other, its_port = taken.setdefault((port.published, port.protocol), (key, port))
            if other != key and "ingress" in (port.mode, its_port.mode):
                raise declared[key]["ports"].error(
                    f"port {port.published}/{port.protocol} is published by the service {other} too"
                )
