"""`stack deploy`: a Compose file becomes a running stack."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from cli.commands.follow import follow, settle_option, timeout_option
from cli.commands.project import load, project_options
from cli.commands.session import connect
from cluster.errors import UserError

if TYPE_CHECKING:
    from cluster.compose import Project
    from cluster.views import ResolveImage

EVERY = "*"


@click.command()
@project_options
@click.argument("name", required=False)
@click.option("--detach", "-d", is_flag=True, help="Do not wait until it runs.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history of the stack.")
@click.option("--atomic", is_flag=True, help="All or nothing: if new tasks of one service fail, undo the whole deploy.")
@click.option(
    "--force", "forced", multiple=True, is_flag=False, flag_value=EVERY, metavar="[SERVICE]",
    help="Replace the tasks of a service (of all, if none is named) and run its job again, though nothing has changed.",
)  # fmt: skip
@click.option(
    "--resolve-image", type=click.Choice(["always", "changed", "never"]), default="always", show_default=True,
    help="Look up in the registries what images' tags mean now, so that each node runs the same and a rebuilt image is "
    "taken: for all services, for those whose image the file changed, or for none.",
)  # fmt: skip
@timeout_option
@settle_option
def deploy(
    files: tuple[str, ...],
    project_name: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    name: str | None,
    detach: bool,
    reason: str,
    atomic: bool,
    forced: tuple[str, ...],
    resolve_image: ResolveImage,
    timeout: float,
    settle: float,
) -> None:
    """Run a Compose file as a stack, or bring a running one up to date.

    NAME is the stack's; otherwise it is the name: in the file, or that of the file's folder. The command waits until
    all tasks of this version run, and those of jobs have completed; it ends with exit code 1 and the reason if they do
    not.
    """
    if name and project_name and name != project_name:
        raise UserError(f"the stack has two names, {name!r} and {project_name!r}", hint="Give it once.")
    project = load(files, name or project_name, profiles, env_files)
    spec, contents = project.stack(), project.contents()
    for line in _told(project):
        click.echo(line, err=True)
    force = tuple(spec.services) if EVERY in forced else forced
    if unknown := sorted(set(force) - spec.services.keys()):
        raise UserError(
            f"the file has no service {', '.join(unknown)} to force", hint="It has " + ", ".join(spec.services)
        )
    with connect() as client:
        reply = client.deploy(spec, reason, contents=contents, atomic=atomic, force=force, resolve_image=resolve_image)
        for note in reply.notes:
            click.echo(f"note: {note}", err=True)
        if not reply.changed:
            click.echo(f"{reply.stack} is like that already (revision {reply.revision})", err=True)
        if detach:
            click.echo(f"deploying {reply.stack}, revision {reply.revision}")
            return
        follow(client, reply.stack, reply.revision, timeout=timeout, settle=settle)
    click.echo(f"{reply.stack} runs, revision {reply.revision}")


def _told(project: Project) -> list[str]:
    """Say what is worth knowing before anything is touched: warnings, and keys that come to something else.

    A verdict that many places share is told once.
    """
    lines = [f"note: {note}" for note in project.notes]
    places: dict[tuple[str, str, str], list[str]] = {}
    for one in project.verdicts():
        if one.word != "honoured":
            where = f"{one.where.file}:{one.where.line}"
            places.setdefault((one.word, one.name, one.text), []).append(f"{where}: {'.'.join(map(str, one.path))}")
    for (word, _, text), found in places.items():
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        lines.append(f"note: {found[0]}{more}: {word}: {text}")
    return lines
