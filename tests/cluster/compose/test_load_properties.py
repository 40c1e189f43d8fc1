"""What holds of loading, whatever is loaded: only ComposeError, configs that load again, and bounds."""

from __future__ import annotations

import json
import resource
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from cluster import compose
from cluster.compose.fields import ROOT
from cluster.compose.kinds import Array, Either, Kind, Made, Object, Scalar, Table
from cluster.errors import ComposeError
from tests.cluster.compose.loading import FILE, RESOURCES, model, reader_of
from tests.cluster.compose.test_spec_files import MERGED
from tests.cluster.compose.test_spec_services import LOADED

many = settings(deadline=None, suppress_health_check=list(HealthCheck), max_examples=200)
NAMES = st.sampled_from(["a", "b", "n", "s", "default", "x-y", "B.c"])
TEXTS = st.sampled_from(
    "a|b|n|80|1-3:4-6/udp|8080:80|vv:/v:ro|./a:/b|10s|5m|$A|${A:-x}|${B:?m}|host|volume|bind|/run:size=1m|A=1|A|h:1.2.3.4"
    "|service:b|gpu|all|yes|-1|1.5|CMD|!|a 'b|".split("|")
)
ODD: st.SearchStrategy[Any] = (
    st.none()
    | st.booleans()
    | st.integers(-2, 2**70)
    | st.floats()
    | st.text(max_size=4)
    | TEXTS
    | st.just([])
    | st.just({})
)


def _some(kind: Object, keys: list[str]) -> st.SearchStrategy[Any]:
    return st.fixed_dictionaries({key: values(kind.fields[key]) for key in keys})


def values(kind: Kind) -> st.SearchStrategy[Any]:
    """Make what may stand where a kind is wanted, and now and then what may not."""
    match kind:
        case Made(form):
            fit = values(form)
        case Either(forms):
            fit = st.one_of([values(form) for form in forms])
        case Array(item):
            fit = st.lists(values(item), max_size=2)
        case Table(value):
            fit = st.dictionaries(NAMES, values(value), max_size=2)
        case Object():
            chosen = st.lists(st.sampled_from(sorted(kind.fields)), max_size=3, unique=True)
            fit = chosen.flatmap(lambda keys: _some(kind, [*kind.required, *keys]))
        case Scalar(choices=choices) if choices:
            fit = st.sampled_from(choices)
        case Scalar(types):
            fit = st.one_of(
                [TEXTS if "string" in types else st.nothing(), st.integers(0, 5) if len(types) > 1 else st.nothing()]
            )
        case _:
            fit = ODD
    return st.one_of([fit] * 12 + [ODD]) if not fit.is_empty else ODD


TREES = values(ROOT)


def load(*trees: Any, env: dict[str, str] | None = None) -> compose.Project | None:
    """Read; None for what is refused. Any other exception fails the test."""
    paths = [FILE, "/srv/app/over.yml", "/srv/app/more.yml"][: len(trees)]
    texts = [tree if isinstance(tree, str | bytes) else json.dumps(tree) for tree in trees]
    files = dict(zip(paths, texts, strict=True))
    try:
        loaded = compose.read(paths, env or {}, reader_of(files), name="p", profiles=["*"])
    except ComposeError as error:
        assert str(error)
        return None
    assert all(where.line > 0 for _, where in loaded.used)
    return loaded


def again(loaded: compose.Project) -> dict[str, Any]:
    text = loaded.config("yaml")
    return compose.read([FILE], {}, reader_of({FILE: text}), name="p", profiles=["*"]).model


@many
@given(TREES, st.dictionaries(st.sampled_from("AB"), st.text(max_size=4)))
def test_any_tree_of_known_keys(tree: Any, env: dict[str, str]) -> None:
    load(tree, env=env)


@many
@given(TREES, TREES)
def test_any_two_files(one: Any, other: Any) -> None:
    load(one, other)


@many
@given(st.binary(max_size=60), st.binary(max_size=60))
def test_any_bytes_in_an_included_file_and_its_variables(content: bytes, variables: bytes) -> None:
    text = b"include: [s/i.yml]\nservices: {a: {image: x, env_file: e}}"
    files = {FILE: text, "/srv/app/s/i.yml": content, "/srv/app/s/.env": variables, "/srv/app/e": variables}
    try:
        compose.read([FILE], {}, reader_of(files), name="p")
    except ComposeError as error:
        assert str(error)


def whole(text: str) -> str:
    return f"services:\n  a: {{image: x, {text}}}\n  b: {{image: y}}\n{RESOURCES}"


@pytest.mark.parametrize("text", [text for text, _ in LOADED] + [base for base, _, _ in MERGED])
def test_a_printed_config_loads_to_the_same(text: str) -> None:
    loaded = load(whole(text), env={"HOME": "/home/user"})
    assert loaded is not None
    assert again(loaded) == loaded.model
    assert json.loads(loaded.config("json")) == loaded.model


@many
@given(st.lists(st.sampled_from([text for text, _ in LOADED]), min_size=1, max_size=3, unique=True))
def test_many_keys_together_load_to_the_same(texts: list[str]) -> None:
    loaded = load(whole(", ".join(texts)))
    if loaded is not None:
        assert again(loaded) == loaded.model


APPENDED = ("constraints", "devices", "security_opt", "gpus: all")
"""Lists that grow when they are merged, as the specification says, even by what they hold; `all` is no list."""


@pytest.mark.parametrize("text", [text for text, _ in LOADED if not any(key in text for key in APPENDED)])
def test_a_file_laid_over_itself_is_itself(text: str) -> None:
    file = whole(text)
    loaded, twice = load(file), load(file, file)
    assert loaded is not None and twice is not None
    assert twice.model == loaded.model


def test_ten_thousand_services_load_in_seconds() -> None:
    service = "{{image: 'x:{0}', environment: {{A: 1, B: $A}}, ports: ['{0}:80'], depends_on: [s0]}}"
    text = "services:\n  s0: {image: x}\n" + "".join(f"  s{n}: {service.format(n)}\n" for n in range(1, 10_000))
    started = time.process_time()
    assert len(model(text)["services"]) == 10_000
    assert time.process_time() - started < 60  # 5 s where nothing else runs


def test_aliases_upon_aliases_stay_within_a_gigabyte() -> None:
    bomb = "x-0: &a0 {k: v, l: [w]}\n" + "".join(
        f"x-{n}: &a{n} [*a{n - 1}, *a{n - 1}, *a{n - 1}]\n" for n in range(1, 30)
    )
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert load(bomb + "services: {a: {image: x}}") is None
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 2**20  # KiB


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(b"#" * (50 << 20), id="50 MB"),
        pytest.param(b"services: " + b"{a: " * 90 + b"}" * 90, id="deep"),
        pytest.param(b"x: " + b"[" * 100_000, id="very deep"),
        pytest.param(b"services: {a: {image: '" + b"${A:-" * 5000 + b"}" * 5000 + b"'}}", id="variables in variables"),
        pytest.param(b"services: {a: {image: '" + b"$A" * 100_000 + b"'}}", id="variables that grow"),
        pytest.param(b"services: {a: {image: x, command: '" + b"(" * 100_000 + b"'}}", id="brackets"),
        pytest.param(
            b"services:\n" + b"".join(b"  s%d: {extends: s%d}\n" % (n, n + 1) for n in range(5000)),
            id="a chain of extends",
        ),
    ],
)
def test_what_is_too_much_is_refused(text: bytes) -> None:
    assert load(text, env={"A": "x" * 1000}) is None


@pytest.mark.parametrize(
    "text",
    [
        "services: {a: {image: x, ulimits: {A: {soft: [1], hard: 2}}}}",
        "services: {a: {image: x, ulimits: {A: [1]}}}",
        "services: {a: {image: x, networks: [default]}}\nnetworks: {default: , n n: 5}",
        "services: {a: {image: x}}\nnetworks: {n n: {ipam: {config: 5}, labels: 3}}",
        "services: {a: {image: x}}\nmodels: {m m: 5}",
        "services: {a: {image: x, gpus: [{options: [[1]], capabilities: 4}]}}",
    ],
)
def test_names_that_the_schema_does_not_look_into_bring_no_other_error(text: str) -> None:
    load(text)


def test_a_long_chain_of_dependencies_is_followed() -> None:
    chain = "".join(f"  s{n}: {{image: x, depends_on: [s{n + 1}]}}\n" for n in range(3000))
    assert load(f"services:\n{chain}  s3000: {{image: x}}\n") is not None
    assert load(f"services:\n{chain}  s3000: {{image: x, depends_on: [s0]}}\n") is None
