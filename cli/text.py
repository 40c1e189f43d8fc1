"""How wide text is on a terminal, where some characters take two columns and others none, and how it is folded."""

from __future__ import annotations

import textwrap


def columns_of(text: str) -> int:
    """Give the columns that a line takes."""
    if text.isascii():
        return len(text)
    from rich.cells import cell_len  # only where it is needed: it takes as long to load as a command takes

    return cell_len(text)


def padded(text: str, columns: int) -> str:
    return text + " " * (columns - columns_of(text))


def folded(text: str, columns: int, indent: str = "", hanging: str | None = None) -> list[str]:
    """Break a line between words into lines of so many columns; a word that is wider than that is cut.

    Lines after the first are indented by `hanging`, or as the first is. In 0 columns all fits.
    """
    rest = indent if hanging is None else hanging
    if not columns:
        return [indent + text]
    if text.isascii():
        return textwrap.wrap(text, columns, initial_indent=indent, subsequent_indent=rest, break_on_hyphens=False)
    from rich.cells import chop_cells

    room = max(columns - max(len(indent), len(rest)), 2)
    lines: list[str] = []
    line = ""
    for word in text.split():
        if line and columns_of(line) + 1 + columns_of(word) <= room:
            line += " " + word
            continue
        if line:
            lines.append(line)
        *whole, line = chop_cells(word, room)
        lines += whole
    first, *more = *lines, line
    return [indent + first, *(rest + one for one in more)]
