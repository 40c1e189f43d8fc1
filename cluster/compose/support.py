"""The README's table of what is supported, made from the table of verdicts.

    python -m cluster.compose.support README.md

writes it between its two markers.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from cluster.compose.convert.verdicts import OTHER, TABLE, Depends, Honoured, Refused, Rule, Translated

BEGIN = "<!-- support: made by python -m cluster.compose.support README.md -->"
END = "<!-- /support -->"


def table() -> str:
    """Give the table in Markdown: places where all is honoured in one row, then what is honoured, then the rest."""
    whole = [pattern for pattern, rules in TABLE.items() if all(rule == Honoured() for rule in rules.values())]
    lines = ["| where | key | what becomes of it |", "| --- | --- | --- |"]
    lines.append(f"| {', '.join(map(_place, whole))} | every key | honoured |")
    for pattern, rules in TABLE.items():
        if pattern in whole:
            continue
        plain = [f"`{key}`" for key, rule in rules.items() if rule == Honoured()]
        if plain:
            lines.append(f"| {_place(pattern)} | {', '.join(plain)} | honoured |")
        lines += [f"| {_place(pattern)} | {keys} | {told} |" for keys, told in _others(rules)]
    return "\n".join(lines)


def _place(pattern: str) -> str:
    """Write `services.*.ports.[]` shorter: `service.ports[]`."""
    return f"`{pattern.replace('services.*', 'service').replace('.[]', '[]')}`" if pattern else "the top"


def _others(rules: dict[str, Rule]) -> Iterator[tuple[str, str]]:
    told: dict[str, list[str]] = {}
    for key, rule in rules.items():
        if rule != Honoured():
            told.setdefault(_told(rule), []).append("any other" if key == OTHER else f"`{key}`")
    return ((", ".join(keys), text) for text, keys in told.items())


def _told(rule: Rule) -> str:
    match rule:
        case Honoured(note):
            return f"honoured {note}" if note.startswith("as ") else f"honoured: {note}"
        case Translated(to):
            return f"translated: {to}"
        case Refused(why, instead):
            return f"refused: {why}. {instead}".strip()
        case Depends(told):
            return told


def renewed(readme: str) -> str:
    """Give the text of the README with the table brought up to date."""
    before, begin, rest = readme.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"the text has no {BEGIN} ... {END}")
    return f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"


if __name__ == "__main__":
    file = Path(sys.argv[1])
    file.write_text(renewed(file.read_text()))
