"""Records as they are stored: keys, schema numbers, and golden files that every later version must read."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cluster.codec import KINDS, PREFIX, SCHEMA, decode, encode, key_for, key_of, revision_ident, type_of
from cluster.errors import Inconsistent
from cluster.model.stack import StackRevision
from cluster.model.task import Task
from tests.cluster.examples import EXAMPLES

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_every_kind_of_record_is_read_from_what_the_first_version_wrote(kind: str) -> None:
    record = EXAMPLES[kind]
    assert decode(key_of(record), (GOLDEN / f"{kind}-1.json").read_bytes()) == record


@pytest.mark.parametrize("file", [pytest.param(path, id=path.stem) for path in sorted(GOLDEN.iterdir())])
def test_every_golden_file_of_any_version_can_be_read(file: Path) -> None:
    kind = next(kind for kind in KINDS if kind.name == file.stem.partition("-")[0])
    assert isinstance(decode(key_for(kind.type, "any"), file.read_bytes()), kind.type)


@pytest.mark.parametrize("kind", [kind.name for kind in KINDS])
def test_what_is_written_is_read_as_it_was(kind: str) -> None:
    record = EXAMPLES[kind]
    assert decode(key_of(record), encode(record)) == record
    assert type_of(key_of(record)) is type(record)


def test_fields_of_a_later_version_are_passed_over() -> None:
    record = EXAMPLES["task"]
    stored = json.loads(encode(record))
    stored["record"]["mood"] = "good"
    assert decode(key_of(record), json.dumps(stored).encode()) == record


def test_fields_that_an_older_version_did_not_write_get_their_defaults() -> None:
    stored = {
        "schema": 1,
        "record": {
            "id": "t", "stack_uid": "s", "service_uid": "v", "slot": 1, "n": 1, "version": 1, "created_at": 0.0
        },
    }  # fmt: skip
    expected = Task("t", "s", "v", 1, 1, 1, 0.0)
    assert decode(key_for(Task, "t"), json.dumps(stored).encode()) == expected


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        pytest.param("task/t", b'{"schema": %d}' % (SCHEMA + 1), "schema", id="a newer schema is refused"),
        pytest.param("task/t", b"{", "cannot be read", id="what is no JSON is refused"),
        pytest.param("task/t", b'{"schema": 1, "record": {"id": 3}}', "cannot be read", id="a wrong type is refused"),
        pytest.param(
            "node/n", b'{"schema": 1, "record": {"id": "\xd4"}}', "cannot be read", id="what is no UTF-8 is refused"
        ),
        pytest.param(
            "node/n", b'{"schema": 1, "x": ' + b"[" * 10**5, "cannot be read", id="what is nested too deep is refused"
        ),
        pytest.param("mood/t", b"{}", "no kind", id="an unknown kind is refused"),
    ],
)
def test_what_cannot_be_understood_is_never_guessed(key: str, value: bytes, words: str) -> None:
    with pytest.raises(Inconsistent, match=words):
        decode(PREFIX + key, value)


def test_a_key_outside_the_state_is_refused() -> None:
    with pytest.raises(Inconsistent, match="no kind"):
        type_of("/stackyard/ca/key")


def test_revisions_sort_by_number_in_etcd() -> None:
    keys = [key_for(StackRevision, revision_ident("s1", n)) for n in (1, 2, 9, 10, 11, 100, 2000)]
    assert keys == sorted(keys)


def test_no_two_records_share_a_key() -> None:
    keys = [key_of(record) for record in EXAMPLES.values()]
    assert len(set(keys)) == len(keys)
