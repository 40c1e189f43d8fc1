"""Files of NAME=value lines."""

from __future__ import annotations

import pytest

from cluster.compose import dotenv
from cluster.errors import ComposeError
from tests.cluster.compose.loading import container, refused_service

ENV = {"X": "x", "FROM": "shell"}


@pytest.mark.parametrize(
    ("text", "values"),
    [
        pytest.param("A=1\nB = two \n", {"A": "1", "B": "two"}, id="spaces round names and values go"),
        pytest.param("A: 1", {"A": "1"}, id="a colon parts as well"),
        pytest.param("export A=1", {"A": "1"}, id="export is passed over"),
        pytest.param("# c\n\n  # d\nA=1 # c\nB=a#b\nC=#c", {"A": "1", "B": "a#b", "C": "#c"}, id="comments"),
        pytest.param("A='$X # \"'", {"A": '$X # "'}, id="single quotes are literal"),
        pytest.param('A="$X # ${U:-d}" # c', {"A": "x # d"}, id="double quotes take variables"),
        pytest.param(r'A="a\nb\t\"\\\$X"', {"A": 'a\nb\t"\\$X'}, id="and escapes"),
        pytest.param('A="l1\nl2"\nB=1', {"A": "l1\nl2", "B": "1"}, id="and go over lines"),
        pytest.param("A=1\nB=${A}2$X", {"A": "1", "B": "12x"}, id="earlier lines can be used"),
        pytest.param("FROM\nNONE\n", {"FROM": "shell"}, id="a name alone takes what is outside"),
        pytest.param("A=1\nA=2", {"A": "2"}, id="later lines win"),
        pytest.param("A=\r\nB=1\r\n", {"A": "", "B": "1"}, id="line ends of Windows"),
    ],
)
def test_parse(text: str, values: dict[str, str]) -> None:
    assert dotenv.parse(text.encode(), ".env", ENV.get) == values


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("A=1\nno equals sign", 2, "holds a space"),
        ("A=1\n\nB='open", 3, "never closed"),
        ("a/b=1", 1, "holds '/'"),
        ("A=1\nexport ", 2, "no name after export"),
        ('M="1\n2"\nA=${U?must}', 3, "required"),
    ],
)
def test_refused(text: str, line: int, told: str) -> None:
    with pytest.raises(ComposeError, match=told) as caught:
        dotenv.parse(text.encode(), ".env", ENV.get)
    assert caught.value.line == line


def test_env_files_lie_below_environment_and_later_ones_win() -> None:
    files = {"/srv/app/a.env": "A=1\nB=1\nC=1\nD=1", "/srv/app/b.env": "B=2\nC=2"}
    spec = container("env_file: [a.env, ./b.env], environment: {C: 3, D: }", files=files)
    assert spec.environment == {"A": "1", "B": "2", "C": "3"}


def test_an_env_file_may_be_missing_only_when_it_says_so() -> None:
    assert container("env_file: [{path: no.env, required: false}]").environment == {}
    error = refused_service("env_file: no.env")
    assert (error.line, error.field, error.reason) == (2, "services.a.env_file.0", "there is no file /srv/app/no.env")


def test_a_raw_env_file_is_taken_as_it_stands() -> None:
    files = {"/srv/app/r.env": '# c\nB="x $A" # c\n'}
    assert container("env_file: [{path: r.env, format: raw}]", files=files).environment == {"B": '"x $A" # c'}
