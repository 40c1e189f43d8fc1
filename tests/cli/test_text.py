"""How wide text is, and how it is folded, also where characters take two columns."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.output import table
from cli.text import columns_of, folded

WORDS = st.lists(st.text(st.sampled_from("ab-日本é"), min_size=1, max_size=12), max_size=8)


@given(words=WORDS, columns=st.integers(12, 40), indents=st.sampled_from([("", None), ("    ", None), ("  ", "    ")]))
def test_no_line_is_too_wide_and_nothing_is_lost(
    words: list[str], columns: int, indents: tuple[str, str | None]
) -> None:
    lines = folded(" ".join(words), columns, *indents)
    assert all(columns_of(line) <= columns for line in lines)
    assert "".join("".join(lines).split()) == "".join(words)


@pytest.mark.parametrize(
    ("text", "columns", "lines"),
    [
        pytest.param("ab cd ef", 5, ["ab cd", "ef"], id="between words"),
        pytest.param("日本 本日 日本", 9, ["日本 本日", "日本"], id="each takes two columns"),
        pytest.param("日本語の文", 5, ["日本", "語の", "文"], id="a word that is wider is cut"),
        pytest.param("shop_the-web cd", 9, ["shop_the-", "web cd"], id="names only where they must be"),
        pytest.param("as it is", 0, ["as it is"], id="no bound"),
    ],
)
def test_lines_are_broken(text: str, columns: int, lines: list[str]) -> None:
    assert folded(text, columns) == lines


def test_columns_are_aligned_by_what_they_take() -> None:
    assert table([["名前", "x"], ["a", "y"]]).splitlines() == ["名前  x", "a     y"]
