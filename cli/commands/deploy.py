"""`stack deploy`: a Compose file becomes a running stack."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

import click

from cli.client import Client
from cli.commands import completion
from cli.commands.follow import follow, settle_option, tell_changes, tell_ports, timeout_option
from cli.commands.project import load, project_options
from cli.commands.session import connect
from cluster.errors import Failed, UserError

if TYPE_CHECKING:
    from cluster.compose import Project
    from cluster.model.stack import StackSpec
    from cluster.views import ResolveImage

EVERY = "*"

_Command = TypeVar("_Command", bound=Callable[..., object])


class Wanted(NamedTuple):
    """What a file comes to: a whole stack, the contents of its secrets and configs, the services that are forced."""

    spec: StackSpec
    contents: dict[tuple[str, str], bytes]
    force: tuple[str, ...]


def stack_options(command: _Command) -> _Command:
    """Add the options of `wanted` to a command, and those that say how the deploy is to be."""
    for option in (
        click.option(
            "--if-revision", type=click.IntRange(min=0), metavar="N",
            help="Only if the stack is at this revision, as `stack history` shows it (0: not there yet).",
        ),
        click.option(
            "--resolve-image", type=click.Choice(["always", "changed", "never"]), default="always", show_default=True,
            help="Look up in the registries what images' tags mean now, so that each node runs the same and a rebuilt "
            "image is taken: for all services, for those whose image the file changed, or for none.",
        ),
        click.option(
            "--force", "forced", multiple=True, is_flag=False, flag_value=EVERY, metavar="[SERVICE]",
            help="Replace the tasks of a service (of all, if none is named) and run its job again, though nothing has "
            "changed.",
        ),
        click.argument("name", required=False, shell_complete=completion.stacks),
        project_options,
    ):  # fmt: skip
        command = option(command)
    return command


def wanted(
    files: tuple[str, ...],
    project_name: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    name: str | None,
    forced: tuple[str, ...],
) -> Wanted:
    """Read the files, saying what is worth knowing of them."""
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
    return Wanted(spec, contents, force)


@click.command()
@stack_options
@click.option("--detach", "-d", is_flag=True, help="Do not wait until it runs.")
@click.option("--reason", metavar="TEXT", default="", help="Why, for the history of the stack.")
@click.option("--atomic", is_flag=True, help="All or nothing: if new tasks of one service fail, undo the whole deploy.")
@click.option("--dry-run", is_flag=True, help="Only show what it would do, with the exit codes of `stack plan`.")
@click.option("--yes", "-y", is_flag=True, help="Stop services that are not in the file any more without asking.")
@timeout_option
@settle_option
@click.pass_context
def deploy(
    context: click.Context,
    files: tuple[str, ...],
    project_name: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    name: str | None,
    detach: bool,
    reason: str,
    atomic: bool,
    dry_run: bool,
    yes: bool,
    forced: tuple[str, ...],
    resolve_image: ResolveImage,
    if_revision: int | None,
    timeout: float,
    settle: float,
) -> None:
    """Run a Compose file as a stack, or bring a running one up to date.

    NAME is the stack's; otherwise it is the name: in the file, or that of the file's folder. The command waits until
    all tasks of this version run, and those of jobs have completed; it ends with exit code 1 and the reason if they do
    not.

    Services of the stack that are not in the file any more are stopped, as with `docker stack deploy --prune`. On a
    terminal it asks before; elsewhere, and with --yes, it says so and goes on. Volumes stay, whatever the file says:
    only `stack rm --volumes` removes data.

    \b
    stack deploy -f compose.yml shop
    stack deploy -f compose.yml -f prod.yml --atomic --reason 'new cart' shop
    stack deploy --if-revision 7 --timeout 300 shop
    """

    def read() -> Wanted:
        return wanted(files, project_name, profiles, env_files, name, forced)

    if dry_run:
        from cli.commands.plan import tell

        tell(context, read, resolve_image, if_revision, "table")
        return
    spec, contents, force = read()
    with connect() as client:
        base = if_revision
        if (asked_at := _agreed(client, spec, ask=not yes)) is not None and base is None:
            base = asked_at
        reply = client.deploy(spec, reason, base, contents, atomic=atomic, force=force, resolve_image=resolve_image)
        for note in reply.notes:
            click.echo(f"note: {note}", err=True)
        if not reply.changed:
            click.echo(f"{reply.stack} is like that already (revision {reply.revision})", err=True)
        tell_changes(reply)
        if detach:
            click.echo(f"deploying {reply.stack}, revision {reply.revision}")
            return
        follow(client, reply.stack, reply.revision, timeout=timeout, settle=settle)
        click.echo(f"{reply.stack} runs, revision {reply.revision}")
        tell_ports(client, spec)


def _agreed(client: Client, spec: StackSpec, *, ask: bool) -> int | None:
    """Say which services a deploy stops, and ask on a terminal; gives the revision for which that was agreed to.

    None is without a question.
    """
    if spec.name not in {stack.name for stack in client.stacks()}:
        return None
    newest = client.revisions(spec.name)[0]
    going = sorted(newest.images.keys() - spec.services.keys())
    if not going:
        return None
    told = f"stops {', '.join(going)} of the stack {spec.name}: not in the file any more"
    if not (ask and sys.stdin.isatty() and sys.stderr.isatty()):
        click.echo(f"note: this {told}", err=True)
        return None
    click.echo(f"This {told}.", err=True)
    if not click.confirm("Go on?", err=True):
        raise Failed("nothing was deployed", hint=f"`stack plan` shows what else it would do to {spec.name}.")
    return newest.n


def _told(project: Project) -> list[str]:
    """Say what is worth knowing before anything is touched: warnings, and keys that come to something else.

    A verdict that many places share is told once.
    """
    lines = [f"note: {note}" for note in (*project.notes, *project.doubts())]
    places: dict[tuple[str, str, str], list[str]] = {}
    for one in project.verdicts():
        if one.word != "honoured":
            where = f"{one.where.file}:{one.where.line}"
            places.setdefault((one.word, one.name, one.text), []).append(f"{where}: {'.'.join(map(str, one.path))}")
    for (word, _, text), found in places.items():
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        lines.append(f"note: {found[0]}{more}: {word}: {text}")
    return lines
