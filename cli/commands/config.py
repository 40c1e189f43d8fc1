"""`stack config`: what Compose files come to, and what becomes of each key in them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from cli.commands.project import load, project_options
from cli.output import table
from cluster.errors import NotFound, UserError

if TYPE_CHECKING:
    from cluster.compose import Project

_LISTS = ("services", "images", "volumes", "networks", "profiles", "verdicts")
_NOT_HASHED = ("build", "pull_policy", "scale", "depends_on", "profiles")


@click.command()
@project_options
@click.option(
    "--format",
    "form",
    type=click.Choice(["yaml", "json"]),
    help="yaml (the default) is a Compose file again; json is for programs, its dollars are not doubled.",
)
@click.option("--services", "show", flag_value="services", help="Only the names of the services.")
@click.option("--images", "show", flag_value="images", help="Only the images.")
@click.option("--volumes", "show", flag_value="volumes", help="Only the names of the volumes.")
@click.option("--networks", "show", flag_value="networks", help="Only the names of the networks.")
@click.option("--profiles", "show", flag_value="profiles", help="Only the profiles that services have.")
@click.option(
    "--verdicts", "show", flag_value="verdicts", help="What becomes of each key: honoured, translated, refused."
)
@click.option("--hash", "hashed", metavar="SERVICE", help="A digest of a service's definition; * for all of them.")
@click.option("-q", "--quiet", is_flag=True, help="Print nothing: only tell whether the files can be read.")
@click.option("-o", "--output", metavar="FILE", help="Write to a file.")
def config(
    files: tuple[str, ...],
    project_name: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    form: str | None,
    show: str | None,
    hashed: str | None,
    quiet: bool,
    output: str | None,
) -> None:
    """Print Compose files as one, in full and in one form, as `docker compose config` does.

    With --verdicts: what a deploy would make of each key in them, and where it is written.

    \b
    stack config -f compose.yml
    stack config -f compose.yml --verdicts
    """
    project = load(files, project_name, ("*",) if show == "profiles" else profiles, env_files)
    for note in project.notes:
        click.echo(f"note: {note}", err=True)
    if quiet:
        return
    if hashed is not None:
        text = _lines(_hashes(project, hashed))
    elif show == "verdicts":
        text = _verdicts(project, form)
    elif show is not None:
        text = _lines(_names(project, show))
    else:
        text = project.config("json" if form == "json" else "yaml")
    if output is None:
        click.echo(text, nl=False)
        return
    try:
        Path(output).write_text(text)
    except OSError as error:
        raise UserError(f"{output} cannot be written: {error.strerror}") from None


def _lines(lines: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in lines)


def _names(project: Project, what: str) -> list[str]:
    services: dict[str, dict[str, Any]] = project.model.get("services") or {}
    match what:
        case "services":
            return sorted(services)
        case "images":
            return sorted(service.get("image") or f"{project.name}-{key}" for key, service in services.items())
        case "profiles":
            return sorted({profile for service in services.values() for profile in service.get("profiles") or ()})
        case _:
            return sorted(project.model.get(what) or ())


def _hashes(project: Project, wanted: str) -> list[str]:
    """Digest definitions as Docker does: without what says how the image comes, how many run, and when."""
    services: dict[str, dict[str, Any]] = project.model.get("services") or {}
    if wanted != "*" and (missing := [key for key in wanted.split(",") if key not in services]):
        raise NotFound(f"there is no service {missing[0]!r}", hint="stack config --services lists them.")
    return [f"{key} {_hash(services[key])}" for key in (sorted(services) if wanted == "*" else wanted.split(","))]


def _hash(service: dict[str, Any]) -> str:
    kept = {key: value for key, value in service.items() if key not in _NOT_HASHED}
    if isinstance(deploy := kept.get("deploy"), dict):
        kept["deploy"] = {key: value for key, value in deploy.items() if key != "replicas"}
    if (environment := kept.pop("environment", None)) is not None:  # Docker prints it behind the entrypoint
        keys = list(kept)
        at = keys.index("entrypoint") + 1 if "entrypoint" in kept else 0
        kept = {**{k: kept[k] for k in keys[:at]}, "environment": environment, **{k: kept[k] for k in keys[at:]}}
    text = json.dumps(kept, separators=(",", ":"), ensure_ascii=False)
    for letter in "<>&\u2028\u2029":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    import hashlib  # the start is to be fast

    return hashlib.sha256(text.encode()).hexdigest()


def _verdicts(project: Project, form: str | None) -> str:
    found = project.verdicts()
    if form == "json":
        rows = [
            {
                "key": ".".join(map(str, one.path)),
                "file": one.where.file,
                "line": one.where.line,
                "verdict": one.word,
                "text": one.text,
            }
            for one in found
        ]
        return json.dumps(rows, indent=2) + "\n"
    lines = [["WHERE", "KEY", "VERDICT", ""]]
    lines += [
        [f"{Path(one.where.file).name}:{one.where.line}", ".".join(map(str, one.path)), one.word, one.text]
        for one in found
    ]
    return table(lines) + "\n"
