"""Whatever is loaded, a stack or a ComposeError comes out, and nothing else."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import compose
from cluster.compose.convert.verdicts import TABLE
from cluster.errors import ComposeError
from cluster.model.stack import StackSpec
from tests.cluster.compose.loading import FILE, reader_of, stack

EXAMPLES = sorted((Path(__file__).parents[3] / "compose-files").glob("*/compose.yml"))
many = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=300)


def outcome(
    content: bytes, env: dict[str, str] | None = None, dotenv: bytes = b"", name: str | None = "p"
) -> StackSpec | ComposeError:
    """Load; what is loaded can be sent and read again. Any other exception fails the test."""
    try:
        spec = compose.load([FILE], env or {}, reader_of({FILE: content, "/srv/app/.env": dotenv}), project_name=name)
    except ComposeError as error:
        assert str(error)
        return error
    assert msgspec.json.decode(msgspec.json.encode(spec), type=StackSpec) == spec
    return spec


@many
@given(st.binary(max_size=200))
def test_any_bytes(content: bytes) -> None:
    outcome(content)


@many
@given(st.text(alphabet="abx:-[]{}&*<!|>\"'#?,@%\n\t $0123.~=/\\\0\ud7ff\u2028", max_size=80))
def test_any_yaml_like_text(text: str) -> None:
    outcome(text.encode())
    outcome(f"services: {{a: {{image: x, command: {text}}}}}".encode())


@many
@given(st.text(max_size=60), st.binary(max_size=60), st.dictionaries(st.sampled_from("ABCDE"), st.text(max_size=5)))
def test_any_variables(text: str, dotenv: bytes, env: dict[str, str]) -> None:
    content = json.dumps(
        {"services": {"a": {"image": "x${A}", "command": [text], "environment": {"A": "${B:-" + text}}}}
    )
    outcome(content.encode(), env, dotenv)


@many
@given(st.none() | st.text(max_size=8), st.text(max_size=8))
def test_any_name(name: str | None, key: str) -> None:
    outcome(json.dumps({"services": {key: {"image": "x"}}}).encode(), name=name)


KEYS = sorted({key for verdicts in TABLE.values() for key in verdicts} | {"x-stackyard", "a", "data"})
WORDS = (
    "80:80|1-3:4-6/udp|data:/v:ro|./a:/b|10s|5m|$A|${A:-x}|ingress|host|volume|bind|tmpfs|/run:size=1m|on-failure:3|CMD"
    "|A=1|h:1.2.3.4|node.role == worker|vip|replicated"
).split("|")
SCALARS = (
    st.none() | st.booleans() | st.integers(-10, 2**70) | st.floats() | st.text(max_size=6) | st.sampled_from(WORDS)
)
TREES: st.SearchStrategy[Any] = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=12,
)


@many
@given(TREES)
def test_any_tree(tree: Any) -> None:
    outcome(json.dumps(tree).encode("utf-8", "replace"))


@many
@given(st.dictionaries(st.sampled_from(sorted(TABLE["services.*"])), TREES, max_size=4), TREES, TREES)
def test_any_service(fields: dict[str, Any], networks: Any, volumes: Any) -> None:
    tree = {"services": {"a": {"image": "x", **fields}}, "networks": networks, "volumes": volumes}
    outcome(json.dumps(tree).encode("utf-8", "replace"))


@many
@given(st.data())
def test_examples_with_a_piece_cut_out_or_put_in(data: st.DataObject) -> None:
    content = data.draw(st.sampled_from(EXAMPLES)).read_bytes()
    start = data.draw(st.integers(0, len(content)))
    end = data.draw(st.integers(start, min(len(content), start + 40)))
    outcome(
        content[:start]
        + data.draw(st.binary(max_size=6) | st.sampled_from([b"- ", b": ", b"*x", b"\n  "]))
        + content[end:]
    )


@many
@given(TREES, TREES)
def test_any_two_files(one: Any, other: Any) -> None:
    files = {FILE: json.dumps({"services": {"a": one}}), "/srv/app/2.yml": json.dumps({"services": {"a": other}})}
    try:
        compose.load(
            list(files), {}, reader_of({path: text.encode("utf-8", "replace") for path, text in files.items()})
        )
    except ComposeError as error:
        assert str(error)


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.parent.name)
def test_each_example_loads_and_merging_it_with_itself_changes_nothing(path: Path) -> None:
    text = path.read_bytes()
    assert stack(text, text) == stack(text)


def test_ten_thousand_services_load() -> None:
    text = "services:\n" + "".join(f"  s{n}: {{image: 'x:{n}', environment: {{A: 1}}}}\n" for n in range(10_000))
    assert len(stack(text).services) == 10_000
