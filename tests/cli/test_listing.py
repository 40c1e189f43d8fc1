"""Lists: filters, templates, names only, and what becomes of a table on a narrow terminal."""

from __future__ import annotations

from dataclasses import dataclass, field

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from cli.listing import Listing, fitted, list_options, show
from cluster.errors import UserError


@dataclass(frozen=True, slots=True)
class Row:
    id: str
    name: str
    desired: str = "running"
    since: float = 0.0
    labels: dict[str, str] = field(default_factory=dict)
    nodes: tuple[str, ...] = ()


ROWS = [
    Row("3f01", "shop_web.1", labels={"zone": "a", "ssd": ""}, nodes=("n1", "n2")),
    Row("3f02", "shop_web.2", "shutdown"),
    Row("a000", "blog_web.1", labels={"zone": "b"}, nodes=("n2",)),
]
COLUMNS = {
    "NAME": lambda r: r.name,
    "ID": lambda r: r.id[:2],
    "AGE": lambda r: "5m",
    "MESSAGE": lambda r: "all is well",
}


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        pytest.param([], ["shop_web.1", "shop_web.2", "blog_web.1"], id="none"),
        pytest.param(["name=shop"], ["shop_web.1", "shop_web.2"], id="the beginning of a name"),
        pytest.param(["name=*web.1"], ["shop_web.1", "blog_web.1"], id="a pattern"),
        pytest.param(["desired-state=shutdown"], ["shop_web.2"], id="by Docker's word"),
        pytest.param(["desired=run"], [], id="other fields are whole"),
        pytest.param(["desired!=running"], ["shop_web.2"], id="all others"),
        pytest.param(["AGE=5m", "id=a0"], ["blog_web.1"], id="what a column shows, and two at once"),
        pytest.param(["label=ssd"], ["shop_web.1"], id="a label's name"),
        pytest.param(["label=zone=b"], ["blog_web.1"], id="a label's value"),
        pytest.param(["nodes=n2"], ["shop_web.1", "blog_web.1"], id="one of several"),
        pytest.param(["nodes!=n1"], ["shop_web.2", "blog_web.1"], id="none of several"),
    ],
)
def test_filters(filters: list[str], expected: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    show(ROWS, COLUMNS, Listing(quiet=True, filters=tuple(filters)))
    assert capsys.readouterr().out.splitlines() == expected


@pytest.mark.parametrize(
    ("template", "expected"),
    [
        (r"{{.Name}}\t{{ .id }}", "shop_web.1\t3f"),
        ("{{.Desired}} {{.desired}} since {{.Since}}", "running running since 0.0"),
        ("{{.Labels}}", '{"zone":"a","ssd":""}'),
        ("is {{json .}}", 'is {"id":"3f01","name":"a","desired":"running","since":0.0,"labels":{},"nodes":[]}'),
    ],
)
def test_templates(template: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    show([Row("3f01", "a") if "json" in template else ROWS[0]], COLUMNS, Listing(template))
    assert capsys.readouterr().out == expected + "\n"


@pytest.mark.parametrize(
    ("listing", "word"),
    [
        (Listing(filters=("colour=red",)), "there is no field colour"),
        (Listing(filters=("name",)), "does not say what to look for"),
        (Listing(filters=("=x",)), "does not say what to look for"),
        (Listing("{{.Colour}}"), "there is no field Colour"),
        (Listing("{{range .}}"), "is no field"),
    ],
)
def test_what_is_not_there_is_told(listing: Listing, word: str) -> None:
    with pytest.raises(UserError, match=word):
        show(ROWS, COLUMNS, listing)


def test_options_become_one_argument() -> None:
    import click

    got = []

    @click.command()
    @list_options
    def ls(listing: Listing) -> None:
        """List."""
        got.append(listing)

    runner = CliRunner()
    assert runner.invoke(ls, ["-q", "--filter", "a=b", "--filter", "c=d", "--format", "{{.Name}}"]).exit_code == 0
    assert got == [Listing("{{.Name}}", quiet=True, filters=("a=b", "c=d"))]
    said = runner.invoke(ls, ["--format", "yaml"])
    assert said.exit_code == 2 and "neither table, json nor a template" in said.output


TABLE = [
    ["NAME", "IMAGE", "STATE", "MESSAGE"],
    ["shop_web.1", "registry.example.com/team/web:1.2.3", "running", ""],
    ["shop_web.2", "registry.example.com/team/web:1.2.3", "pending", "no node fits: 2 of 3 have too little memory"],
]


@pytest.mark.parametrize(
    ("width", "expected"),
    [
        pytest.param(
            200,
            """
NAME        IMAGE                                STATE    MESSAGE
shop_web.1  registry.example.com/team/web:1.2.3  running
shop_web.2  registry.example.com/team/web:1.2.3  pending  no node fits: 2 of 3 have too little memory""",
            id="wide",
        ),
        pytest.param(
            84,
            """
NAME        IMAGE                                STATE    MESSAGE
shop_web.1  registry.example.com/team/web:1.2.3  running
shop_web.2  registry.example.com/team/web:1.2.3  pending  no node fits: 2 of 3 have
                                                          too little memory""",
            id="the last cell is wrapped",
        ),
        pytest.param(
            60,
            """
NAME        STATE    MESSAGE
shop_web.1  running
shop_web.2  pending  no node fits: 2 of 3 have too little
                     memory""",
            id="a spare column is left out",
        ),
        pytest.param(
            40,
            """
NAME        STATE
shop_web.1  running
shop_web.2  pending
    no node fits: 2 of 3 have too little
    memory""",
            id="the last cell is below",
        ),
    ],
)
def test_a_table_fits_the_terminal(width: int, expected: str) -> None:
    assert "\n" + fitted(TABLE, width, ("IMAGE",)) == expected


@given(
    st.lists(st.tuples(*[st.text("ab ", max_size=30)] * 3), max_size=5),
    st.integers(10, 120),
    st.sets(st.sampled_from(["A", "B"])),
)
def test_no_word_of_the_last_column_is_lost(rows: list[tuple[str, ...]], width: int, spare: set[str]) -> None:
    shown = fitted([["A", "B", "C"], *rows], width, sorted(spare))
    assert "".join(row[2] for row in rows).count("a") <= shown.count("a")
    wide = fitted([["A", "B", "C"], *rows], 500, sorted(spare))
    assert len(wide.split("\n")) == 1 + len(rows)


LONG_NAME = "the-storefront-of-the-european-shop-eu01"


@pytest.mark.parametrize(
    ("last", "lines"),
    [
        pytest.param(f"web: {LONG_NAME}", ["n1    running", f"    web: {LONG_NAME}"], id="no word is cut: below"),
        pytest.param("is drained", ["n1    running  is drained"], id="beside"),
    ],
)
def test_the_last_column_is_put_where_its_words_stay_whole(last: str, lines: list[str]) -> None:
    table = [["NAME", "STATE", "MESSAGE"], ["n1", "running", last]]
    assert fitted(table, 50).splitlines()[1:] == lines


def test_short_figures_are_left_out_rather_than_put_below() -> None:
    table = [["NAME", "CPU", "NET IN"], [LONG_NAME, "0.1%", "0B/s"]]
    assert fitted(table, 48).splitlines()[1] == f"{LONG_NAME}  0.1%"
