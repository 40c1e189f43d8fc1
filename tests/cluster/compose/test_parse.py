"""YAML text to trees: anchors, merge keys, duplicates, tags, limits, and where each value stands."""

from __future__ import annotations

import time

import pytest

from cluster.compose.parse import MAX_BYTES, parse
from cluster.compose.tree import List, Map, place_of
from cluster.errors import ComposeError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("a: 1\nb: [x, 'y']", {"a": 1, "b": ["x", "y"]}, id="mappings and lists"),
        pytest.param("\ufeffa: 1", {"a": 1}, id="a byte order mark is passed over"),
        pytest.param("a: '010'", {"a": "010"}, id="quotes make text"),
        pytest.param("a: !!str 010", {"a": "010"}, id="and so does the tag"),
        pytest.param("a: &x {k: 1}\nb: *x", {"a": {"k": 1}, "b": {"k": 1}}, id="an alias repeats its anchor"),
        pytest.param(
            "b: &b {e: {x: 1}, k: 1}\na:\n  <<: *b\n  e: {y: 2}",
            {"b": {"e": {"x": 1}, "k": 1}, "a": {"e": {"y": 2}, "k": 1}},
            id="a merge is shallow, and the own key wins",
        ),
        pytest.param(
            "b: &b {k: 1}\nc: &c {k: 2, l: 3}\na: {<<: [*b, *c]}",
            {"b": {"k": 1}, "c": {"k": 2, "l": 3}, "a": {"k": 1, "l": 3}},
            id="of several merged mappings the first wins",
        ),
        pytest.param('a: {"<<": 1}', {"a": {"<<": 1}}, id="in quotes it is no merge key"),
        pytest.param("a: !x {b: !y 1}", {"a": {"b": "1"}}, id="tags of one's own are passed over"),
        pytest.param("a: !!binary aGk=", {"a": "hi"}, id="binary text"),
        pytest.param("a: |\n  x\n  y\n", {"a": "x\ny\n"}, id="a block is text"),
    ],
)
def test_values(text: str, value: object) -> None:
    (document,) = parse(text.encode(), "f.yml")
    assert document.root == value


def test_documents_are_given_in_order() -> None:
    assert [d.root for d in parse(b"a: 1\n---\n---\nb: 2\n", "f.yml")] == [{"a": 1}, None, {"b": 2}]
    assert parse(b"# nothing\n", "f.yml") == []


def test_each_value_knows_its_place() -> None:
    (document,) = parse(b"a:\n  b:\n    - x\n    - {c: 1}\n", "f.yml")
    root = document.root
    assert isinstance(root, Map) and isinstance(root["a"]["b"], List)
    paths: list[tuple[str | int, ...]] = [
        ("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1), ("a", "b", 1, "c"), ("a", "b", 2), ("a", "z"),
    ]  # fmt: skip
    assert [place_of(root, path) for path in paths] == [("f.yml", line) for line in (1, 2, 3, 4, 4, 2, 1)]


def test_what_reset_and_override_take_out_is_told() -> None:
    text = b"a: !reset [1]\nb: {c: !override [2], d: [1, !reset 2]}\ne: &e {f: !reset 1}\ng: {<<: *e}\n"
    (document,) = parse(text, "f.yml")
    assert document.root == {"b": {"c": [2], "d": [1]}, "e": {}, "g": {}}
    assert document.drops == (("a",), ("b", "c"), ("e", "f"))


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        pytest.param(b"a: 1\nb: 2\na: 3", 3, "the key is there twice (also in line 1)", id="a key twice"),
        pytest.param(b"a: [1, 2\n", 1, "this is not YAML", id="an open bracket"),
        pytest.param(b"a:\n\tb: 1", 2, "this is not YAML", id="a tab"),
        pytest.param(b"a: *x", 1, "there is no anchor &x", id="an alias of nothing"),
        pytest.param(b"a: &x\n  - *x", 2, "a value that it is part of", id="an anchor within itself"),
        pytest.param(b"a: &x\n  <<: *x", 2, "a value that it is part of", id="a merge of itself"),
        pytest.param(b"a:\n  <<: 1", 2, "only a mapping", id="a merge of a number"),
        pytest.param(b"a: 1\n1: b", 2, "the key 1 is not text", id="a number as key"),
        pytest.param(b"? [a]\n: b", 1, "a key must be text", id="a list as key"),
        pytest.param(b"a: !!int x", 1, "is not of the type", id="a tag that lies"),
        pytest.param(b"a: 1\nb: \xff", 2, "not UTF-8", id="not UTF-8"),
        pytest.param(b'a: "\\ud800"', 1, "", id="half a character"),
        pytest.param(b"[" * 5000, 1, "", id="far too deep"),
        pytest.param(b"a: " * 1 + b"{a: " * 150 + b"}" * 150, 1, "levels deep", id="too deep"),
    ],
)
def test_refused(text: bytes, line: int, told: str) -> None:
    with pytest.raises(ComposeError) as caught:
        parse(text, "f.yml")
    assert told in caught.value.reason
    assert (caught.value.file, caught.value.line) == ("f.yml", line)


def test_a_large_file_is_refused_unread() -> None:
    with pytest.raises(ComposeError, match="larger than 10 MiB"):
        parse(b"#" * (MAX_BYTES + 1), "f.yml")


def test_aliases_of_aliases_end_in_an_error_soon() -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    started = time.process_time()
    with pytest.raises(ComposeError, match="aliases add more than"):
        parse(bomb.encode(), "f.yml")
    assert time.process_time() - started < 10


def test_merge_keys_of_merge_keys_end_in_an_error_soon() -> None:
    bomb = "a0: &a0 {k: v}\n" + "".join(
        f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 40)
    )
    started = time.process_time()
    with pytest.raises(ComposeError, match="aliases add more than"):
        parse(bomb.encode(), "f.yml")
    assert time.process_time() - started < 10
