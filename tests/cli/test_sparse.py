"""What a request leaves out, and that a manager reads the same from it."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgspec
import pytest
from pydantic import TypeAdapter

from cli.client.sparse import sparse
from cluster.model.stack import StackRevision
from tests.cluster.examples import EXAMPLES


@pytest.mark.parametrize("name", [name for name, one in EXAMPLES.items() if dataclasses.is_dataclass(one)])
def test_what_is_left_out_is_read_as_it_was(name: str) -> None:
    whole = EXAMPLES[name]
    adapter: TypeAdapter[Any] = TypeAdapter(type(whole))
    assert adapter.validate_json(msgspec.json.encode(sparse(whole))) == whole


def test_only_what_was_asked_for_is_said() -> None:
    revision = EXAMPLES["revision"]
    assert isinstance(revision, StackRevision)
    service = next(iter(revision.spec.services.values()))
    plain = dataclasses.replace(service, stopped=False)
    assert "stopped" not in sparse(plain)
    assert sparse(dataclasses.replace(plain, stopped=True))["stopped"] is True
