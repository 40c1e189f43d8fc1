"""`stack explain`."""

from __future__ import annotations

import click

from cli.commands import completion
from cli.commands.session import connect
from cli.listing import fitted
from cli.output import Form, format_option, terminal_width
from cluster.views import Explanation


@click.command()
@click.argument("what", metavar="SERVICE|TASK", shell_complete=completion.services_and_tasks)
@format_option
def explain(what: str, form: Form) -> None:
    """Tell why a service or a task is not as it should be, and what would mend it.

    WHAT is a service (app_web), a task's name (app_web.2) or the beginning of its id. Each node is listed with why one
    more task of the service would not fit it.

    \b
    stack explain shop_web
    stack explain web.2
    """
    with connect() as client:
        found = client.explain(what)
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    else:
        click.echo(in_words(found))


def in_words(found: Explanation) -> str:
    of = "" if found.what == found.service else f" of {found.service}"
    lines = [f"{found.what}: {found.running} of {found.wanted} tasks{of} run"]
    for trouble in found.troubles:
        lines.append(f"  {trouble.about}: {trouble.why}")
        if trouble.change:
            lines.append(f"    -> {trouble.change}")
    if not found.troubles:
        lines.append("  nothing is wrong with it")
    rows = [["NODE", "TASKS", "ONE MORE", "WHAT WOULD MAKE IT FIT"]]
    for node in found.nodes:
        first, *others = node.reasons or (None,)
        rows.append(
            [node.node, str(node.tasks), "fits" if first is None else first.why, "" if first is None else first.change]
        )
        rows += [["", "", other.why, other.change] for other in others if other is not None]
        rows += [["", "", f"{one.about} {one.why}", one.change] for one in node.lately]
    return "\n".join(lines) + ("\n\n" + fitted(rows, terminal_width() or None) if found.nodes else "")
