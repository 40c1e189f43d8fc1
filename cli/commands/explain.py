"""`stack explain`."""

from __future__ import annotations

import click

from cli.commands import completion, names
from cli.commands.session import connect
from cli.listing import fitted
from cli.output import Form, format_option, terminal_width
from cli.text import folded
from cluster.errors import NotFound
from cluster.views import Explanation, ServiceView

_MOST_NAMES = 3


@click.command()
@click.argument("what", metavar="STACK|SERVICE|TASK", shell_complete=completion.stacks_services_and_tasks)
@format_option
def explain(what: str, form: Form) -> None:
    """Tell why a service or a task is not as it should be, and what would mend it; of a stack, for each such service.

    A service is app_web, or web if only one stack has it; a task web.2, or the beginning of its id. Each node is listed
    with why one more task of the service would not fit it.

    \b
    stack explain shop_web
    stack explain web.2
    stack explain shop
    """
    found: Explanation | list[Explanation]
    with connect() as client:
        try:
            found = client.explain(what)
        except NotFound:
            if what not in names.stacks(client):
                raise
            found = [client.explain(one.name) for one in client.services(what) if _is_wrong(one)]
    if form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(found), indent=2))
    elif found:
        several = found if isinstance(found, list) else [found]
        click.echo("\n\n".join(in_words(one, terminal_width()) for one in several))
    else:
        click.echo(f"{what}: nothing is wrong with it")


def _is_wrong(service: ServiceView) -> bool:
    return bool(service.problem) or service.running + service.completed < service.wanted


def in_words(found: Explanation, columns: int) -> str:
    """Tell it in so many columns (0: any number)."""
    of = "" if found.what == found.service else f" of {found.service}"
    lines = [f"{found.what}: {found.running} of {found.wanted} tasks{of} run"]
    alike: dict[tuple[str, str], list[str]] = {}
    for trouble in found.troubles:
        alike.setdefault((trouble.why, trouble.change), []).append(trouble.about)
    for (why, change), about in alike.items():
        lines += _told(_some(about), why, change, columns)
    if not found.troubles:
        lines.append("  nothing is wrong with it")
    rows = [["NODE", "TASKS", "ONE MORE", "WHAT WOULD MAKE IT FIT"]]
    for node in found.nodes:
        first, *others = node.reasons or (None,)
        rows.append(
            [node.node, str(node.tasks), "fits" if first is None else first.why, "" if first is None else first.change]
        )
        rows += [["", "", other.why, other.change] for other in others if other is not None]
    if found.nodes:
        lines += ["", fitted(rows, columns or None)]
    lately = [(node.node, one) for node in found.nodes for one in node.lately]
    if lately:
        lines += ["", "What failed lately:"]
    for name, one in lately:
        lines += _told(name, f"{one.about} {one.why}", one.change, columns)
    return "\n".join(lines)


def _told(about: str, why: str, change: str, columns: int) -> list[str]:
    mended = folded(f"-> {change}", columns, "    ", "       ") if change else []
    return [*folded(f"{about}: {why}", columns, "  ", "    "), *mended]


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
