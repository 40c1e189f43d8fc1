"""Whatever a model holds, converting it gives a stack or a ComposeError, and judging it always gives verdicts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.compose.convert import builds, contents, convert, judge
from cluster.compose.convert.field import Path
from cluster.errors import ComposeError
from cluster.model.stack import StackSpec
from tests.cluster.compose.convert.plain import Plain
from tests.cluster.compose.convert.specification import KEYS

WORDS = sorted({"a", "x", "/x", "host", "1s", "1m30s", "80", "0444", "service:a", "10.0.0.0/8", "node.role == manager"})
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 2**40), st.floats(), st.sampled_from(WORDS), st.text(max_size=8)
)
trees = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "x", "name"]), inner, max_size=3)
    ),
    max_leaves=8,
)


def planted(path: list[str], value: Any) -> Any:
    """Build the tree that has the value at this place of the specification."""
    for part in reversed(path):
        value = [value] if part == "[]" else {"a" if part == "*" else part: value}
    return value


def joined(one: Any, other: Any) -> Any:
    if isinstance(one, dict) and isinstance(other, dict):
        return {**one, **{key: joined(one[key], value) if key in one else value for key, value in other.items()}}
    return other


@st.composite
def models(draw: st.DrawFn) -> dict[str, Any]:
    """A model of one good service, with anything at a few places where the specification has a key."""
    model: Any = {"name": "shop", "services": {"a": {"image": "x"}}}
    for _ in range(draw(st.integers(1, 4))):
        key = draw(st.sampled_from(sorted(KEYS)))
        model = joined(model, planted(key.split("."), draw(trees)))
    return dict(model)


def _walk(node: Any, path: Path = ()) -> Iterator[Path]:
    for step, value in node.items() if isinstance(node, dict) else enumerate(node) if isinstance(node, list) else ():
        yield (*path, step)
        yield from _walk(value, (*path, step))


@settings(max_examples=600, deadline=None)
@given(models())
def test_a_model_gives_a_stack_or_an_error_of_the_files(model: dict[str, Any]) -> None:
    project = Plain(model)
    try:
        assert isinstance(convert(project), StackSpec)
    except ComposeError as error:
        assert error.reason
    for step in (builds, contents):
        try:
            step(project)
        except ComposeError as error:
            assert error.reason


@settings(max_examples=300, deadline=None)
@given(models())
def test_what_is_accepted_never_stops_a_deploy(model: dict[str, Any]) -> None:
    model.pop("x-stackyard", None)
    refused = {one.name for one in judge(Plain(model)) if one.refused}
    again = Plain({**model, "x-stackyard": {"accept": sorted(refused)}})
    assert not [one for one in judge(again) if one.refused]
    try:
        convert(again)
    except ComposeError as error:
        assert "not supported" not in error.reason
