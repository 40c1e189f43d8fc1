"""A verdict on every key: honoured, refused with a reason, accepted by the file, or unknown."""

from __future__ import annotations

import pytest

from cluster.compose.keys import TABLE, Refused, accept_name
from tests.cluster.compose.loading import project, refused, refused_service

REFUSED = sorted(
    (pattern, key)
    for pattern, verdicts in TABLE.items()
    for key, verdict in verdicts.items()
    if isinstance(verdict, Refused)
)


@pytest.mark.parametrize(
    ("text", "line", "field", "hint"),
    [
        ("service: {}", 1, "service", "Did you mean services?"),
        ("services:\n  a:\n    image: x\n    enviroment: {}", 4, "services.a.enviroment", "Did you mean environment?"),
        ("services:\n  a: {image: x, deploy: {replica: 2}}", 2, "services.a.deploy.replica", "Did you mean replicas?"),
        ("services: {a: {image: x, healthcheck: {xyzzy: 1}}}", 1, "services.a.healthcheck.xyzzy", "begin with x-"),
        ("services: {a: {image: x}}\nvolumes: {v: {size: 1}}", 2, "volumes.v.size", ""),
        (
            "services: {a: {image: x, networks: {default: {alias: [x]}}}}",
            1,
            "services.a.networks.default.alias",
            "aliases",
        ),
    ],
)
def test_an_unknown_key_is_an_error_with_its_line(text: str, line: int, field: str, hint: str) -> None:
    error = refused(text)
    assert (error.line, error.field, error.reason) == (line, field, "the key is unknown")
    assert hint in error.hint


def test_keys_of_ones_own_are_left_alone_everywhere() -> None:
    found = project(
        "x-a: {any: thing}\n"
        "services: {a: {image: x, x-b: 1, deploy: {x-c: 1}, ports: [{target: 1, published: 1, x-d: 1}]}}"
    )
    assert found.stack().services["a"].replicas == 1


def test_a_refused_key_says_why_and_what_to_do() -> None:
    error = refused("services:\n  a:\n    image: x\n    depends_on:\n      - b")
    assert (error.line, error.field) == (4, "services.a.depends_on")
    assert error.reason == "the key is not supported: services start in no given order"
    assert "retry" in error.hint
    assert "x-stackyard: {accept: [privileged]}" in refused_service("privileged: true").hint


def test_a_file_can_accept_that_a_key_has_no_effect() -> None:
    found = project(
        "x-stackyard: {accept: [depends_on, deploy.update_config]}\n"
        "services:\n  a: {image: x, depends_on: [b], deploy: {update_config: {order: start-first}}}\n  b: {image: x}\n"
    )
    assert sorted(found.stack().services) == ["a", "b"]
    assert [note.where.field for note in found.notes] == ["services.a.depends_on", "services.a.deploy.update_config"]
    assert "has no effect" in str(found.notes[0])


@pytest.mark.parametrize(("pattern", "key"), REFUSED, ids=lambda part: part or "top")
def test_every_refused_key_can_be_accepted(pattern: str, key: str) -> None:
    """Build a tree that holds just this key, however deep; unless accepted it is refused, for the reason told."""
    node: object = {key: None}
    for part in reversed([part for part in pattern.split(".") if part]):
        node = [node] if part == "[]" else {"n" if part == "*" else part: node}
    text = f"{node!r}".replace("None", "null")
    error = refused(text)
    assert "the key is not supported" in error.reason
    assert (
        accept_name(pattern, key) in {n for n in error.hint.replace("]", " ").replace("[", " ").split()} or error.hint
    )
    accepted = f"{{'x-stackyard': {{'accept': ['{accept_name(pattern, key)}']}}, {text[1:]}"
    assert [note.where.field.rpartition(".")[2] for note in project(accepted).notes] == [key]


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ("{accept: [depend_on]}", "'depend_on' is no key of a Compose file"),
        ("{allow: [x]}", "the key is unknown"),
        ("{accept: depends_on}", "a list is wanted here"),
    ],
)
def test_what_is_accepted_must_exist(ours: str, told: str) -> None:
    assert told in refused(f"x-stackyard: {ours}\nservices: {{a: {{image: x}}}}").reason
