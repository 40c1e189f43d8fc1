"""`stack plan` and `stack diff`: what a deploy would do, and what others did."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

import click

from cli.commands import completion, names
from cli.commands.deploy import Wanted, stack_options, wanted
from cli.commands.names import suggesting
from cli.commands.session import connect
from cli.output import Form, format_option, table, terminal_width
from cli.text import columns_of, folded
from cluster.errors import StackyardError, UserError
from cluster.plans import FieldChange, ItemChange, PlanView

if TYPE_CHECKING:
    from cluster.views import ResolveImage

MOST_STEPS = 40
WIDEST_VALUE = 60
CONTEXT = 20
"""Characters of a long value that are shown before the place where it begins to differ."""

_SIGNS = {"add": "+", "change": "~", "remove": "-"}
_CHANGES = 2
_REFUSED = 1


class _Plan(click.Command):
    """A wrong command line must not look as if something would change."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        try:
            return super().make_context(*args, **kwargs)
        except click.UsageError as error:
            error.exit_code = _REFUSED  # type: ignore[misc]
            raise


@click.command(cls=_Plan)
@stack_options
@format_option
@click.pass_context
def plan(
    context: click.Context,
    files: tuple[str, ...],
    project_name: str | None,
    profiles: tuple[str, ...],
    env_files: tuple[str, ...],
    name: str | None,
    forced: tuple[str, ...],
    resolve_image: ResolveImage,
    if_revision: int | None,
    form: Form,
) -> None:
    """Show what `stack deploy` of the same files would do, and touch nothing.

    Each thing that would be added (+), changed (~) or removed (-) is listed with the fields that differ, secrets only
    as digests; then which tasks would stop and start, in what order and where, as if all new ones came up; and those
    that would find no place, with the reason.

    Exit codes: 0 nothing would change, 2 something would, 1 the deploy would be refused, 3 no manager answers.

    \b
    stack plan -f compose.yml shop
    stack plan -f compose.yml --format json shop
    """
    tell(
        context,
        lambda: wanted(files, project_name, profiles, env_files, name, forced),
        resolve_image,
        if_revision,
        form,
    )


def tell(
    context: click.Context,
    read: Callable[[], Wanted],
    resolve_image: ResolveImage,
    if_revision: int | None,
    form: Form,
) -> None:
    """Print what a deploy would do, and end with the exit code that says whether it is anything."""
    stack = ""
    try:
        spec, contents, force = read()
        stack = spec.name
        with connect() as client:
            found = client.plan(spec, if_revision, contents, force=force, resolve_image=resolve_image)
    except StackyardError as error:
        _refuse(context, error, stack, form)
        return
    if form == "json":
        _print_json(found)
    else:
        for note in found.notes:
            click.echo(f"note: {note}", err=True)
        click.echo(in_words(found, terminal_width()))
    context.exit(_CHANGES if found.changed else 0)


def _refuse(context: click.Context, error: StackyardError, stack: str, form: Form) -> None:
    """Tell of a refusal, which is an answer here; other errors go on."""
    if error.exit_code != UserError.exit_code:
        raise error
    if form == "json":
        _print_json(PlanView(stack, 0, changed=False, refused=error.message))
    else:
        click.echo(f"it would be refused: {error.message}", err=True)
        if error.hint:
            click.echo(error.hint, err=True)
    context.exit(_REFUSED)


def _print_json(value: object) -> None:
    import msgspec

    click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def in_words(found: PlanView, columns: int) -> str:
    """Tell it in so many columns (0: any number)."""
    if not found.changed:
        return f"{found.stack} is like that already (revision {found.base}): nothing would change"
    what = "would be a new stack" if not found.base else f"would go from revision {found.base} to the next"
    lines = [f"{found.stack} {what}", "", *_changes(found.changes, columns)]
    if found.tasks:
        lines += ["", "In this order, if all new tasks come up:"]
        rows = [[f"{step.step:5}.", step.action, step.task, step.node] for step in found.tasks[:MOST_STEPS]]
        lines += table(rows).splitlines()
        if len(found.tasks) > MOST_STEPS:
            lines.append(f"       and {len(found.tasks) - MOST_STEPS} more: --format json has all")
    if found.waiting:
        lines += ["", "These would wait:"]
        for trouble in found.waiting:
            lines += folded(f"{trouble.about}: {trouble.why}", columns, "  ", "    ")
    lines += ["", "Nothing was touched; `stack deploy` does it."]
    return "\n".join(lines)


def _changes(changes: Iterable[ItemChange], columns: int) -> Iterator[str]:
    for change in changes:
        effect = f": {change.effect}" if change.effect else ""
        yield f"{_SIGNS[change.action]} {change.kind} {change.name}{effect}"
        for field in change.fields:
            yield from _field(field, columns)


def _field(field: FieldChange, columns: int) -> list[str]:
    if not field.before:
        return [f"    {field.path}: {_shortened(field.after)}"]
    pairs = enumerate(zip(field.before, field.after, strict=False))
    alike = next((place for place, (had, has) in pairs if had != has), min(len(field.before), len(field.after)))
    before, after = _shortened(field.before, alike), _shortened(field.after, alike)
    line = f"    {field.path}: {before} -> {after or 'nothing'}"
    if not columns or columns_of(line) <= columns:
        return [line]
    return [f"    {field.path}:", f"         {before}", f"      -> {after or 'nothing'}"]


def _shortened(text: str, alike: int = 0) -> str:
    """Give of a long text the part in which it differs from another, from somewhat before that on."""
    if len(text) <= WIDEST_VALUE:
        return text
    start = max(0, min(alike - CONTEXT, len(text) - WIDEST_VALUE))
    end = start + WIDEST_VALUE
    return ("..." if start else "") + text[start:end] + ("..." if end < len(text) else "")


@click.command()
@click.argument("stack", shell_complete=completion.stacks)
@click.argument("revision", type=click.IntRange(min=1), required=False)
@click.argument("other", type=click.IntRange(min=1), required=False)
@format_option
def diff(stack: str, revision: int | None, other: int | None, form: Form) -> None:
    """Show how the newest revision of a stack differs from an earlier one, field by field.

    Without REVISION that is the one before it. With OTHER, show how that one differs from REVISION.

    \b
    stack diff shop
    stack diff shop 3 5
    """
    with connect() as client, suggesting(client, stack, names.stacks):
        found = client.diff(stack, revision, other)
    if form == "json":
        _print_json(found)
        return
    click.echo(f"{found.stack}: from {f'revision {found.base}' if found.base else 'nothing'} to {found.revision}")
    click.echo("\n".join(_changes(found.changes, terminal_width())) or "they are alike")
