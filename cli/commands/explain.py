"""`stack explain`."""

from __future__ import annotations

import re

import click

from cli.commands import completion, names
from cli.commands.session import connect
from cli.listing import fitted
from cli.output import Form, format_option, terminal_width
from cli.text import folded
from cluster.errors import NotFound
from cluster.model.task import IT_SAID
from cluster.views import Explanation, ServiceView, Trouble

_MOST_NAMES = 3

_LONG = 30
"""Characters of a cause from which on it is told once only."""

_TIMES = re.compile(r" \(([0-9]+) times\)$")
_MADE_OF_IT = re.compile(
    r"^(its update is paused: [0-9]+ of [0-9]+ new tasks failed: |waits [0-9.]+ s before restart [0-9]+: "
    r"|(rejected|failed)( on \S+)?( with exit code -?[0-9]+)?: )"
)
_WORDS = re.compile(rf"[,;] {IT_SAID}.*", re.DOTALL)


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
    nodes = [fit.node for fit in found.nodes]
    told: list[str] = []
    advice: set[str] = set()
    for (why, change), about in alike.items():
        again = _of_any(change, nodes) in advice
        lines += _told(_some(about), _without(why, told), "" if again else change, columns)
        told.append(why)
        advice.add(_of_any(change, nodes))
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
    return "\n".join([*lines, *_lately(found, told, advice, columns)])


def _lately(found: Explanation, told: list[str], advice: set[str], columns: int) -> list[str]:
    """Tell of what failed on nodes, each way once, without what was `told` of the tasks above, and its `advice`."""
    nodes = [fit.node for fit in found.nodes]
    alike: dict[tuple[str, str], list[tuple[str, Trouble]]] = {}
    for fit in found.nodes:
        for one in fit.lately:
            times = _TIMES.search(one.why)
            where = fit.node + (times[0] if times else "")
            alike.setdefault((_TIMES.sub("", one.why), _of_any(one.change, nodes)), []).append((where, one))
    lines = ["", "What failed lately:"] if alike else []
    for (why, change), met in alike.items():
        tasks = _some(sorted({one.about for _, one in met}))
        mended = "" if change in advice else met[0][1].change
        lines += _told(_some([where for where, _ in met]), f"{tasks} {_without(why, told)}", mended, columns)
    return lines


def _of_any(change: str, nodes: list[str]) -> str:
    """Give an advice as it is for whichever of these nodes, to compare it."""
    names = "|".join(map(re.escape, ("the node", *nodes)))
    return re.sub(rf"(?<![\w.-])({names})(?![\w-])", "NODE", change)


def _without(why: str, told: list[str]) -> str:
    """Give a reason, but point to what a node said that was told already rather than tell it again."""
    before, said = "", why
    if made := _MADE_OF_IT.match(why):
        before, said = made[0], why[made.end() :]
    cause = _WORDS.sub("", said)
    words = said[len(cause) :]
    found = next((other for other in told if cause in other), None)
    if len(cause) < _LONG or found is None:
        return why
    return f"{before.rstrip(': ')}, as above{words if IT_SAID in words and IT_SAID not in found else ''}".lstrip(", ")


def _told(about: str, why: str, change: str, columns: int) -> list[str]:
    mended = folded(f"-> {change}", columns, "    ", "       ") if change else []
    return [*folded(f"{about}: {why}", columns, "  ", "    "), *mended]


def _some(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")
