"""Variables: every operator, nesting, and what stays as it is."""

from __future__ import annotations

import pytest

from cluster.compose.interpolate import substitute
from cluster.compose.tree import Where
from cluster.errors import ComposeError
from tests.cluster.compose.loading import container, project, refused_service

ENV = {"S": "v", "E": "", "N": "S"}
HERE = Where("f.yml", 7, "services.a.image")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$S", "v"),
        ("${S}", "v"),
        ("$U.", "."),
        ("a${U}b", "ab"),
        ("${U-d}", "d"),
        ("${E-d}", ""),
        ("${E:-d}", "d"),
        ("${S:-d}", "v"),
        ("${S:+r}", "r"),
        ("${U:+r}", ""),
        ("${E:+r}", ""),
        ("${E+r}", "r"),
        ("${S?must}", "v"),
        ("${E?must}", ""),
        ("${U:-${S}x}", "vx"),
        ("${U:-${W:-${E:-deep}}}", "deep"),
        ("${U:-http://x:80/}", "http://x:80/"),
        ("${U:-{x}}", "{x}"),
        ("${U:-a-b:?c}", "a-b:?c"),
        ("${S:+${S}$S}", "vv"),
        ("$$S", "$S"),
        ("$$$S", "$v"),
        ("$${S}", "${S}"),
        ("${S}s$S", "vsv"),
        ("costs $1", "costs $1"),
        ("ends in $", "ends in $"),
        ("${U:-$$x}", "$x"),
        ("${S:?${never?}}", "v"),
    ],
)
def test_substitute(text: str, value: str) -> None:
    assert substitute(text, ENV.get, HERE) == value


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("${U:?must be set}", "U is required and has no value: must be set", id="required"),
        pytest.param("${E:?}", "E is required and has no value", id="required and not empty"),
        pytest.param("${U?${S}}", "has no value: v", id="the message is replaced too"),
        pytest.param("${S", "never closed", id="an open brace"),
        pytest.param("${}", "is not a variable expression", id="no name"),
        pytest.param("${S!}", "is not a variable expression", id="a wrong operator"),
        pytest.param("${1A}", "is not a variable expression", id="a wrong name"),
        pytest.param("${A:-" * 60 + "}" * 60, "nested more than 50 deep", id="nested without end"),
    ],
)
def test_refused(text: str, told: str) -> None:
    with pytest.raises(ComposeError) as caught:
        substitute(text, ENV.get, HERE)
    assert told in caught.value.reason
    assert str(caught.value).startswith("f.yml:7: services.a.image: ")


def test_keys_are_left_alone_and_items_of_lists_are_not() -> None:
    assert container("environment: {'${S}': 1}", env=ENV).environment == {"${S}": "1"}
    assert container("environment: ['${S}=1']", env=ENV).environment == {"v": "1"}


def test_values_are_cast_after_variables_are_replaced() -> None:
    spec = container("init: '${I}', healthcheck: {test: x, retries: '${R}'}", env={"I": "true", "R": "3"})
    assert spec.init is True
    assert spec.healthcheck is not None
    assert spec.healthcheck.retries == 3
    assert (
        "a whole number is wanted here, not 'x'" in refused_service("deploy: {replicas: '${R}'}", env={"R": "x"}).reason
    )


def test_dotenv_beside_the_first_file_is_read_and_the_shell_goes_before_it() -> None:
    text = "services: {a: {image: 'x:${A}-${B}', environment: [B, C]}}"
    spec = project(text, env={"B": "shell"}, files={"/srv/app/.env": "A=1\nB=2\nC=$A\n"}).stack()
    assert spec.services["a"].container.image == "x:1-shell"
    assert spec.services["a"].container.environment == {"B": "shell", "C": "1"}


def test_an_unset_variable_is_told_once_and_stands_for_nothing() -> None:
    found = project("services:\n  a: {image: 'x$U'}\n  b: {image: 'y$U'}\n")
    assert [str(note) for note in found.notes] == [
        "/srv/app/compose.yml:2: services.a.image: the variable U is not set and stands for nothing"
    ]
