"""What a deploy says of secrets and configs: checked, stored where that is not done yet, and named in its spec."""

from __future__ import annotations

import base64
import binascii
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

from cluster.codec import key_of
from cluster.errors import UserError
from cluster.model.container import FileReference
from cluster.model.secret import LARGEST_CONTENT, ConfigSpec, FileKind, SecretSpec, stack_owner
from cluster.model.service import ServiceMode, ServiceSpec
from cluster.model.stack import StackSpec
from cluster.templates import Place, TemplateError, check, expand_service, expand_volume, task_values
from cluster.views import DeployRequest
from manager.api import revise
from manager.api.core import TRIES, Core, busy
from manager.key_file import Keys

FUNCTIONS = frozenset({"env", "secret", "config"})
"""What templates in contents know beside what those in services do."""

_MAC = re.compile(r"([0-9a-f]{2}:){5}[0-9a-f]{2}")

_Digests = dict[tuple[FileKind, str], str]


async def take_in(core: Core, request: DeployRequest, *, only_named: bool = False) -> StackSpec:
    """Store what the services of a deploy use, unless it is `only_named`, and give its spec with the digests in it.

    Raises UserError, and Unavailable when nobody in reach has the key to seal with.
    """
    spec = request.spec
    revise.check(spec)
    check_templates(spec)
    _check_addresses(spec)
    _check_references(spec)
    stack = core.state.stacks.get(spec.name)
    used: list[tuple[FileKind, SecretSpec | ConfigSpec, str | None]] = []
    for service in spec.services.values():
        for file in service.container.secrets:
            used.append(("secret", spec.secrets[file.source], request.secrets.get(file.source)))
        for file in service.container.configs:
            used.append(("config", spec.configs[file.source], request.configs.get(file.source)))
    if not used or (stack is not None and stack.removing):
        return spec
    keys = await core.vault.keys()
    digests: _Digests = {}
    for kind, said, given in used:
        if (kind, said.key) not in digests:
            digests[kind, said.key] = await _stored(core, spec.name, kind, said, given, keys, only_named=only_named)
    return replace(spec, services={name: _named(spec, service, digests) for name, service in spec.services.items()})


async def _stored(
    core: Core,
    stack: str,
    kind: FileKind,
    said: SecretSpec | ConfigSpec,
    given: str | None,
    keys: Keys,
    *,
    only_named: bool,
) -> str:
    """See to it that the stack has this content, and give its digest."""
    where, owner = f"{kind}s.{said.key}", stack_owner(stack)
    if said.external:
        external = core.state.externals.get(f"{kind}.{said.name}")
        if external is None:
            raise UserError(
                f"{where}: the external {kind} {said.name} does not exist",
                hint=f"Make it with `stack {kind}s create {said.name} FILE`, or take `external` off.",
            )
        if not only_named and external.digest not in core.state.contents.get(owner, {}):
            await store(core, owner, await core.vault.open(external.owner, external.digest), keys)
        return external.digest
    if given is None:
        raise UserError(f"{where}: its content was not sent")
    data = read(where, given)
    if said.template_driver:
        try:
            check(data.decode(), FUNCTIONS)
        except (TemplateError, UnicodeDecodeError) as error:
            raise UserError(f"{where}: it is no template: {error}") from None
    digest = core.vault.digest(data, keys)
    if not only_named and digest not in core.state.contents.get(owner, {}):
        await store(core, owner, data, keys)
    return digest


def read(where: str, given: str) -> bytes:
    """Read a content as it is sent, base64. Raises UserError, which never tells any of it."""
    try:
        data = base64.b64decode(given, validate=True)
    except (binascii.Error, ValueError):
        raise UserError(f"{where}: the content is not base64") from None
    if len(data) > LARGEST_CONTENT:
        raise UserError(
            f"{where}: it has {len(data)} bytes, {LARGEST_CONTENT} is the most",
            hint="Put what is that big into an image or a volume.",
        )
    return data


async def store(core: Core, owner: str, data: bytes, keys: Keys) -> str:
    """Store a content under its owner unless it is there; gives its digest."""
    for _ in range(TRIES):
        content, sealed = core.vault.seal(owner, data, core.clock(), keys)
        if await core.write([content], {key_of(content): 0}, [sealed]):
            return content.digest
        if content.digest in core.state.contents.get(owner, {}):
            return content.digest
    raise busy(f"a content of {owner}")


def _named(spec: StackSpec, service: ServiceSpec, digests: _Digests) -> ServiceSpec:
    def named(kind: FileKind, files: tuple[FileReference, ...]) -> Iterator[FileReference]:
        specs: Mapping[str, SecretSpec | ConfigSpec] = spec.secrets if kind == "secret" else spec.configs
        for file in files:
            templated = bool(specs[file.source].template_driver)
            yield replace(file, digest=digests[kind, file.source], templated=templated)

    given = service.container
    secrets, configs = tuple(named("secret", given.secrets)), tuple(named("config", given.configs))
    return replace(service, container=replace(given, secrets=secrets, configs=configs))


def _check_references(spec: StackSpec) -> None:
    kinds: tuple[tuple[FileKind, Mapping[str, SecretSpec | ConfigSpec]], ...] = (
        ("secret", spec.secrets),
        ("config", spec.configs),
    )
    for kind, specs in kinds:
        for key, said in specs.items():
            if key != said.key or not said.name:
                raise UserError(f"{kind}s.{key}: key and name must be set, and the key be the same")
        for name, service in spec.services.items():
            files = service.container.secrets if kind == "secret" else service.container.configs
            for file in files:
                where = f"services.{name}.{kind}s.{file.source}"
                if file.source not in specs:
                    raise UserError(f"{where}: the stack has no {kind} {file.source}")
                if not file.target.startswith("/") or ".." in file.target.split("/"):
                    raise UserError(f"{where}: the target {file.target!r} is no absolute path")
                if ":" in file.target:
                    raise UserError(f"{where}: the target {file.target!r} has a colon, which no engine takes")
                if not (file.uid.isdigit() and file.gid.isdigit()):
                    raise UserError(f"{where}: uid and gid are numbers, not {file.uid!r} and {file.gid!r}")
                if not 0 <= file.mode <= 0o7777:
                    raise UserError(f"{where}: {file.mode:o} is no mode")


def _check_addresses(spec: StackSpec) -> None:
    """One address is for one task: two with the same in a network would take each other's packets."""
    for name, service in spec.services.items():
        mac, where = service.container.mac_address, f"services.{name}.mac_address"
        fixed = [one for one in service.networks if one.addresses]
        if mac and (_MAC.fullmatch(mac) is None or int(mac[:2], 16) & 1):
            raise UserError(f"{where}: {mac!r} is no address of one host", hint="Write it like 02:42:ac:11:65:43.")
        for one in fixed:
            where = f"services.{name}.networks.{one.network}"
            for address in one.addresses:
                _parse(ipaddress.ip_address, address, where)
        if not mac and not fixed:
            continue
        if service.replicas > 1 or service.mode is not ServiceMode.REPLICATED or service.update.order != "stop-first":
            raise UserError(
                f"{where}: a service with an address of its own has one task at a time",
                hint="Take the key out, or set replicas to 1 and the order of updates to stop-first.",
            )
    for key, network in spec.networks.items():
        for text in network.ranges:
            _parse(ipaddress.ip_network, text, f"networks.{key}.ipam.config")


def _parse(read: Callable[[str], object], text: str, where: str) -> None:
    try:
        read(text)
    except ValueError as error:
        raise UserError(f"{where}: {error}") from None


def check_templates(spec: StackSpec) -> None:
    """Raise TemplateError, with the field, for what no node could expand: each service with a task made up for it."""
    for name, service in spec.services.items():
        values = task_values(
            service="id", name=f"{spec.name}_{name}", labels=service.labels, task="id", slot="1", place=Place("id", "n")
        )
        try:
            expand_service(service, values)
        except TemplateError as error:
            raise TemplateError(f"services.{name}.{error.message}", hint=error.hint) from None
        for volume in spec.volumes.values():
            if volume.name in service.volume_names:
                try:
                    expand_volume(volume, values)
                except TemplateError as error:
                    raise TemplateError(f"volumes.{volume.key}.{error.message}", hint=error.hint) from None
