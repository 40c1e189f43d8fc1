"""Lists: which of their rows a person wants, and how they are shown, by the options that `docker ... ls` has for it."""

from __future__ import annotations

import dataclasses
import fnmatch
import functools
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import click

from cli.output import table, terminal_width
from cli.text import columns_of, folded, padded
from cluster.errors import UserError

Columns = dict[str, Callable[[Any], str]]

_PLACE = re.compile(r"\{\{(.*?)\}\}")
_BEGINNING = ("name", "id")  # matched by their beginning, as `docker service ls --filter` does
_DOCKERS_NAMES = {"desiredstate": "desired"}
_TEXT_AT_LEAST = 24  # columns for a last cell of many words; in fewer it is hard to read
_BELOW = -2  # columns that are left for a last cell which is put below: not even the space before it


@dataclass(frozen=True, slots=True)
class Listing:
    """What a person asked of a list: table, json or a template; names only; and filters, as they were typed.

    `whole` is to have all columns, each row in a line, however wide.
    """

    form: str = "table"
    quiet: bool = False
    filters: tuple[str, ...] = ()
    whole: bool = False


class Form(click.ParamType[str]):
    name = "table|json|TEMPLATE"

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if value not in ("table", "json") and "{{" not in value:
            self.fail(f"{value!r} is neither table, json nor a template such as '{{{{.Name}}}}'", param, ctx)
        return value


def list_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Give a command --format, --quiet, --no-trunc and --filter; it gets them as `listing`, for `show`."""

    @click.option(
        "--filter",
        "filters",
        multiple=True,
        metavar="FIELD=VALUE",
        help="Only rows with this value in a column or field; * stands for anything, != for all others.",
    )
    @click.option("--no-trunc", "whole", is_flag=True, help="Everything, each row in one line, however wide.")
    @click.option("--quiet", "-q", is_flag=True, help="Only the first column.")
    @click.option(
        "--format",
        "form",
        type=Form(),
        default="table",
        metavar="table|json|TEMPLATE",
        help="How to show the list; a template is a line for each row: '{{.Name}} {{.Node}}'.",
    )
    @functools.wraps(command)
    def with_listing(*args: Any, form: str, quiet: bool, whole: bool, filters: tuple[str, ...], **options: Any) -> Any:
        return command(*args, listing=Listing(form, quiet, filters, whole), **options)

    return with_listing


def show(rows: Sequence[Any], columns: Columns, listing: Listing, *, spare: Sequence[str] = ()) -> None:
    """Print views: a column each by its title, all their fields as JSON, or what a template says.

    On a terminal that is too narrow the `spare` columns are left out, the first of them first; the last column is one
    only if it is named. Raises UserError for a filter or template that names no column and no field.
    """
    rows = filtered(rows, columns, listing)
    if listing.form == "json":
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(rows), indent=2))
    elif listing.quiet:
        first = next(iter(columns.values()))
        _print_lines(map(first, rows))
    elif listing.form != "table":
        _print_lines(filled(listing.form, row, columns) for row in rows)
    else:
        width = terminal_width() if sys.stdout.isatty() and not listing.whole else None
        click.echo(fitted([list(columns), *([cell(row) for cell in columns.values()] for row in rows)], width, spare))


def filtered(rows: Sequence[Any], columns: Columns, listing: Listing) -> list[Any]:
    """Give the rows that are asked for. Raises as `show` does."""
    return [row for row in rows if all([_matches(row, columns, text) for text in listing.filters])]


def fitted(lines: Sequence[Sequence[str]], width: int | None, spare: Sequence[str] = ()) -> str:
    """Align a table whose first line are titles, in so many columns of a terminal (None: as wide as it is).

    Where it is too wide, first the spare columns go, then the last one is wrapped, or put below its row if it is words;
    then the columns from the right.
    """
    if width is None:
        return table(lines)
    longest_word = max(columns_of(word) for line in lines for word in (line[-1].split() or [""]))
    enough = min(max(columns_of(line[-1]) for line in lines), max(_TEXT_AT_LEAST, longest_word))

    def without(titles: Sequence[str]) -> tuple[list[str], int]:
        kept = [index for index, name in enumerate(lines[0][:-1]) if name not in titles]
        bodies = table([[line[index] for index in kept] for line in lines]).split("\n")
        return bodies, width - max(map(columns_of, bodies)) - 2

    left_out: list[str] = []
    for title in (*spare, ""):
        if lines[0][-1] in left_out:
            return fitted([line[:-1] for line in lines], width, spare)
        bodies, left = without(left_out)
        if left >= enough:
            break
        left_out.append(title)
    words = any(" " in line[-1] or len(line[-1]) >= _TEXT_AT_LEAST for line in lines[1:])
    if left < enough and not words and len(lines[0]) > 2:
        return fitted([line[:-1] for line in lines], width, spare)
    needed = enough if left >= enough else _BELOW
    for title in (*reversed(lines[0][1:-1]), ""):
        if left >= needed:
            break
        left_out.append(title)
        bodies, left = without(left_out)
    for title in reversed(left_out):  # those that went last may have made room for those before them
        others = [one for one in left_out if one != title]
        if (again := without(others))[1] >= needed:
            (bodies, left), left_out = again, others
    shown = []
    for body, line in zip(bodies, lines, strict=True):
        if left >= enough:
            first, *more = folded(line[-1], left) or [""]
            shown += [f"{padded(body, width - left)}{first}".rstrip(), *(" " * (width - left) + text for text in more)]
        else:
            below = [] if line is lines[0] else folded(line[-1], max(width, _TEXT_AT_LEAST), "    ")
            shown += [body, *below]
    return "\n".join(shown)


def _print_lines(lines: Iterable[str]) -> None:
    for line in lines:
        click.echo(line)


def _matches(row: Any, columns: Columns, text: str) -> bool:
    name, separator, wanted = text.partition("=")
    if not separator or not name:
        raise UserError(f"--filter {text} does not say what to look for", hint="Write FIELD=VALUE, such as node=n1.")
    no, name = name.endswith("!"), name.removesuffix("!")
    found = _value(row, columns, name)
    if isinstance(found, dict):
        said = [*found, *(f"{key}={value}" for key, value in found.items())]
    elif isinstance(found, tuple | list):
        said = [*map(str, found)]
    else:
        said = [str(found)]
    pattern = wanted + "*" if _plain(name) in _BEGINNING else wanted
    return any(fnmatch.fnmatchcase(one, pattern) for one in said) != no


def filled(template: str, row: Any, columns: Columns) -> str:
    """Give what a template says of a row. Raises UserError for one that names no column and no field."""

    def value(place: re.Match[str]) -> str:
        inside = place[1].strip()
        if inside == "json .":
            import msgspec

            return msgspec.json.encode(row).decode()
        if not inside.startswith("."):
            raise UserError(
                f"{place[0]} is no field", hint="Write {{.Name}} for a column or field, {{json .}} for all of them."
            )
        found = _value(row, columns, inside[1:])
        if isinstance(found, dict | tuple | list):
            import msgspec

            return msgspec.json.encode(found).decode()
        return str(found)

    return _PLACE.sub(value, template.replace(r"\t", "\t").replace(r"\n", "\n"))


def _value(row: Any, columns: Columns, name: str) -> Any:
    """What a column shows, else what a field of the view holds; however a person separates the name's words."""
    plain = _plain(name)
    for title, cell in columns.items():
        if _plain(title) == plain:
            return cell(row)
    fields = {_plain(field.name): field.name for field in dataclasses.fields(row)}
    for known in (plain, plain + "s", _DOCKERS_NAMES.get(plain, "")):
        if known in fields:
            return getattr(row, fields[known])
    names = sorted({title.lower() for title in columns} | set(fields.values()))
    raise UserError(f"there is no field {name}", hint=f"There are: {', '.join(names)}.")


def _plain(name: str) -> str:
    return re.sub(r"[\s_-]", "", name).lower()
