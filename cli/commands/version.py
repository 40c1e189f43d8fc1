"""`stack version`."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from importlib.metadata import version as installed
from typing import Literal

import click

from cli.client import Client
from cli.commands.session import connect
from cli.output import Form, format_option, table
from cluster.errors import StackyardError
from cluster.model.node import NodeStatus

_OLDER = "the manager that answers is of an older release, which does not tell"


@dataclass(frozen=True, slots=True)
class Part:
    """`release` is "" where nobody knows it; `protocol` 0 where that is so, or the part speaks none of ours."""

    kind: Literal["command", "manager", "agent", "engine", "etcd"]
    name: str
    release: str
    protocol: int = 0


@dataclass(frozen=True, slots=True)
class Versions:
    """What all parts are. `warnings` tell which differ; `missing` what could not be found out, and why."""

    parts: list[Part] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    exit_code: int = 0


@click.command()
@format_option
def version(form: Form) -> None:
    """Show the versions of this command, each manager and agent, the nodes' engines and etcd, and say which differ.

    Without a manager that answers it shows what it knows of itself; the exit code is 3 then.

    \b
    Example:
      $ stack version
      PART     NAME                   RELEASE   PROTOCOL
      command  stack                  0.1.0     4
      manager  n1                     0.1.0     4
      agent    n1                     0.1.0     4
      engine   n1                     20.10.24
      etcd     http://127.0.0.1:2379  3.4.23
    """
    try:
        with connect(patience=0.0) as client:
            found = versions(client)
    except StackyardError as error:
        found = alone(error)
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo(in_words(found))
        for said in (*found.missing, *found.warnings):
            click.echo(said, err=True)
    raise SystemExit(found.exit_code)


def _myself() -> Part:
    from cluster.protocol import VERSION

    return Part("command", "stack", installed("stackyard"), VERSION)


def alone(error: StackyardError) -> Versions:
    """Tell of this command only, and why of nothing else."""
    return Versions([_myself()], missing=[f"nothing is known of the cluster: {error}"], exit_code=error.exit_code)


def versions(client: Client) -> Versions:
    """Ask for the version of each part; what cannot be had is said in `missing`. Raises when no manager answers."""
    found = Versions([_myself()])
    answering = client.version()
    older = answering.protocol < _myself().protocol
    try:
        upgrade = client.upgrade()
    except StackyardError as error:
        why = _OLDER if older else error.message
        found.missing.append(f"the other managers, and the agents' protocol, are not known: {why}")
        found.parts.append(Part("manager", "that answers", answering.version, answering.protocol))
    else:
        for one in upgrade.programs:
            found.parts.append(Part(one.kind, one.name, one.release, one.version if one.release else 0))
        if behind := [f"{one.kind} {one.name}" for one in upgrade.programs if one.behind and not one.release]:
            found.warnings.append(
                f"warning: {_some(behind)} {_is_are(behind)} of an older release, which does not tell which it is; "
                "`stack upgrade` shows who is behind"
            )
        if upgrade.version < upgrade.newest:
            found.warnings.append(
                f"warning: the cluster keeps to version {upgrade.version} of {upgrade.newest} until its upgrade is at "
                "an end: see `stack upgrade`"
            )
    try:
        nodes = client.nodes()
    except StackyardError as error:
        found.missing.append(f"the nodes' engines are not known: {error.message}")
    else:
        if not any(part.kind == "agent" for part in found.parts):
            found.parts.extend(Part("agent", node.name, node.agent_version) for node in nodes)
        found.parts.extend(Part("engine", node.name, node.engine_version) for node in nodes)
        if down := [node.name for node in nodes if node.status is NodeStatus.DOWN]:
            found.missing.append(f"{_some(down)} {_is_are(down)} down: what is shown is what was heard last")
    found.parts.extend(Part("etcd", member.endpoint, member.version) for member in answering.etcd)
    if not answering.etcd:
        found.missing.append(f"etcd is not known: {_OLDER if older else 'no member of it answers the manager'}")
    found.warnings.extend(skew(found.parts))
    return found


def skew(parts: Iterable[Part]) -> list[str]:
    """Tell which parts differ that should be of one release; what nobody knows is not held against anyone."""
    parts = [part for part in parts if part.release]
    told = []
    ours = [part for part in parts if part.kind in ("command", "manager", "agent")]
    if differ := _differing(ours):
        told.append(f"warning: not all parts are of one release: {differ}; `stack upgrade` shows who is behind")
    elif differ := _differing([replace(part, release=str(part.protocol)) for part in ours if part.protocol]):
        told.append(f"warning: not all parts speak one protocol: {differ}; `stack upgrade` shows who is behind")
    for kind, what in (("engine", "the nodes' engines"), ("etcd", "the members of etcd")):
        if differ := _differing([part for part in parts if part.kind == kind]):
            told.append(f"warning: {what} are not of one version: {differ}")
    return told


def _differing(parts: Iterable[Part]) -> str:
    """Say who has which release; "" when all have the same."""
    having: dict[str, list[str]] = {}
    for part in parts:
        having.setdefault(part.release, []).append(f"{part.kind} {part.name}")
    return "" if len(having) < 2 else ", ".join(f"{release} ({_some(names)})" for release, names in having.items())


def _some(names: list[str]) -> str:
    return ", ".join(names) if len(names) <= 3 else f"{', '.join(names[:2])} and {len(names) - 2} more"


def _is_are(names: list[str]) -> str:
    return "is" if len(names) == 1 else "are"


def in_words(found: Versions) -> str:
    rows = [(one.kind, one.name, one.release or "?", str(one.protocol or "")) for one in found.parts]
    return table([("PART", "NAME", "RELEASE", "PROTOCOL"), *rows])
