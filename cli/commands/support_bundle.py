"""`stack support-bundle`."""

from __future__ import annotations

import io
import os
import tarfile
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import click
import msgspec

from cli import redact
from cli.client import Client
from cli.commands.session import connect
from cli.commands.version import alone, versions
from cli.output import table
from cluster.errors import Failed, StackyardError, Unavailable, UserError
from cluster.views import ServiceView

_FOLDER = "stackyard-support"
_EVENTS = 10_000
_PATIENCE = 1.0  # seconds for each part: what is out of reach is left out, and said to be


@click.command("support-bundle")
@click.argument("file", required=False, metavar="[FILE]")
def support_bundle(file: str | None) -> None:
    """Pack what a maintainer needs to see what is wrong with a cluster into a file (tar.gz), without secrets.

    In it are versions, nodes, stacks and their revisions, specs, services, tasks (ended ones too), networks, volumes,
    events, the report of `stack doctor`, how fast changes are in force, metrics, and explanations of all services
    that do not run as they should.

    Not in it are contents of secrets and configs, values of environments, labels and options, words of commands, and
    what tasks print. Names are: of hosts, images, stacks and people, and addresses. What could not be had is said in
    notes.txt; the exit code is 3 when a part was out of reach.

    \b
    Example:
      stack support-bundle    (stackyard-support-20260102-030405.tar.gz, here)
      stack support-bundle /tmp/ours.tar.gz
    """
    file = file or time.strftime(f"{_FOLDER}-%Y%m%d-%H%M%S.tar.gz")
    bundle = _Bundle()
    with _fresh(file) as target:
        try:
            _fill(bundle)
            bundle.write(target)
        except BaseException:
            os.unlink(file)
            raise
    click.echo(table([("FILE", "BYTES"), *((name, str(len(data))) for name, data in bundle.files.items())]))
    for line in bundle.missing:
        click.echo(f"not in it: {line}", err=True)
    click.echo(f"\nwrote {file}: names of hosts, images and people are in it, so look through it before you send it")
    raise SystemExit(Unavailable.exit_code if bundle.partial else 0)


class _Bundle:
    """The files of a bundle, what is missing from it, and whether that is because something was out of reach."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.missing: list[str] = []
        self.partial = False

    def add(self, name: str, data: bytes) -> None:
        self.files[name] = data

    def miss(self, what: str, error: StackyardError) -> None:
        self.missing.append(f"{what}: {error.message}")
        self.partial |= isinstance(error, Unavailable)

    def have(self, what: str, ask: Callable[[], Any]) -> Any:
        """Ask for a part, as JSON types; None, and said to be missing, when it cannot be had."""
        try:
            return msgspec.to_builtins(ask())
        except StackyardError as error:
            self.miss(what, error)
            return None

    def write(self, target: io.BufferedWriter) -> None:
        with tarfile.open(fileobj=target, mode="w:gz") as archive:
            for name, data in self.files.items():
                member = tarfile.TarInfo(f"{_FOLDER}/{name}")
                member.size, member.mode, member.mtime = len(data), 0o600, int(time.time())
                archive.addfile(member, io.BytesIO(data))


def _fresh(file: str) -> io.BufferedWriter:
    """Make the file before anything is asked: nobody waits for what cannot be written."""
    try:
        return open(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb")
    except FileExistsError:
        raise UserError(f"{file} is there already", hint="Name another file, or remove it.") from None
    except OSError as error:
        raise Failed(f"{file} cannot be written: {error.strerror}", hint="Name another file.") from error


def _fill(bundle: _Bundle) -> None:
    try:
        with connect(patience=_PATIENCE) as client:
            known = versions(client)
            bundle.missing += [f"version.json: {text}" for text in known.missing]
            _collect(bundle, client)
    except StackyardError as error:
        known = alone(error)
        bundle.miss("anything of the cluster", error)
    bundle.add("version.json", _json(known))
    bundle.add("notes.txt", _notes(bundle.missing).encode())


def _collect(bundle: _Bundle, client: Client) -> None:
    """Ask for all parts but the versions, each by itself."""
    stacks = bundle.have("stacks.json", client.stacks)
    specs, secret = _specs(bundle, client, None if stacks is None else [stack["name"] for stack in stacks])
    redactor = redact.Redactor(secret)

    def put(name: str, ask: Callable[[], Any]) -> None:
        if (told := bundle.have(name, ask)) is not None:
            bundle.add(name, _json(redactor.told(told)))

    put("cluster.json", client.cluster)
    put("nodes.json", client.nodes)
    put("stacks.json", lambda: stacks)
    for stack, spec in specs.items():
        bundle.add(f"specs/{stack}.json", _json(spec))
        put(f"revisions/{stack}.json", partial(client.revisions, stack))
    services = bundle.have("services.json", client.services)
    put("services.json", lambda: services)
    put("tasks.json", client.tasks)
    put("networks.json", client.networks)
    put("volumes.json", client.volumes)
    put("events.json", lambda: list(client.events(tail=_EVENTS)))
    put("doctor.json", client.doctor)
    put("convergence.json", client.convergence)
    if (metrics := bundle.have("metrics.txt", client.metrics)) is not None:
        bundle.add("metrics.txt", metrics.encode())
    for service in msgspec.convert(services or [], list[ServiceView]):
        if ails(service):
            put(f"explain/{service.name}.json", partial(client.explain, service.name))


def ails(service: ServiceView) -> bool:
    """Tell whether a service is not as it should be."""
    there = service.completed + service.running if service.mode.is_job else min(service.running, service.updated)
    return bool(service.problem) or there < service.wanted


def _specs(bundle: _Bundle, client: Client, stacks: list[str] | None) -> tuple[dict[str, Any], set[str] | None]:
    """Give the newest revision of each stack without secrets, and the secrets of all; None where some are not known."""
    specs: dict[str, Any] = {}
    secret: set[str] | None = None if stacks is None else set()
    for stack in stacks or ():
        for one in bundle.have(f"the revisions of {stack}", partial(client.revisions, stack)) or ({"n": None},):
            told = bundle.have(f"a revision of {stack}", partial(client.revision, stack, one["n"]))
            if told is None:
                secret = None
                continue
            specs.setdefault(stack, redact.spec(told))
            if secret is not None:
                secret.update(redact.values(told))
    return specs, secret


def _json(told: Any) -> bytes:
    return msgspec.json.format(msgspec.json.encode(told), indent=1) + b"\n"


def _notes(missing: list[str]) -> str:
    lines = [
        f"Made by `stack support-bundle` at {time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime())}.",
        f"{redact.MASK} stands for what may be secret.",
        "metrics.txt and convergence.json are of the manager that answered.",
        "",
        *(["Nothing is missing."] if not missing else ["Missing:", *(f"- {line}" for line in missing)]),
    ]
    return "\n".join(lines) + "\n"
