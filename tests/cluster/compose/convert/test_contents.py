"""What is in secrets and configs, and what is built."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.compose.convert import Build, builds, contents
from cluster.compose.convert.contents import MOST_BYTES
from cluster.errors import ComposeError
from tests.cluster.compose.convert.plain import Plain


def test_contents_of_files_variables_and_texts() -> None:
    project = Plain(
        {
            "secrets": {"s": {"file": "/s"}, "e": {"external": True}, "v": {"environment": "PASSWORD"}},
            "configs": {"s": {"content": "hällo"}},
        },
        files={"/s": b"\0raw"},
        variables={"PASSWORD": "pass"},
    )
    assert contents(project) == {
        ("secret", "s"): b"\0raw",
        ("secret", "v"): b"pass",
        ("config", "s"): "hällo".encode(),
    }


@pytest.mark.parametrize(
    ("secret", "field", "told"),
    [
        ({"file": "/missing"}, "secrets.s.file", "there is no file /missing"),
        ({"environment": "UNSET"}, "secrets.s.environment", "is not set"),
        ({}, "secrets.s", "has no content"),
        ({"file": "/big"}, "secrets.s", "1 MB is the most"),
    ],
    ids=str,
)
def test_contents_that_are_not_there(secret: dict[str, Any], field: str, told: str) -> None:
    with pytest.raises(ComposeError, match=told) as caught:
        contents(Plain({"secrets": {"s": secret}}, files={"/big": b"x" * (MOST_BYTES + 1)}))
    assert caught.value.field == field


def test_builds() -> None:
    service = {
        "image": "me/a",
        "build": {"context": "/src", "dockerfile": "sub/Dockerfile", "args": {"A": "1", "B": None}, "target": "t"},
    }
    assert builds(Plain({"services": {"a": service, "b": {"image": "x"}}})) == (
        Build("a", "me/a", "/src", "/src/sub/Dockerfile", {"A": "1"}, "t"),
    )


@pytest.mark.parametrize(
    ("service", "field"),
    [
        ({"build": {"context": "/src"}}, "build"),
        ({"image": "a", "build": {"context": "https://example.com/repo.git"}}, "build.context"),
        ({"image": "a", "build": {"context": "/src", "ssh": ["default"]}}, "build.ssh"),
    ],
    ids=str,
)
def test_what_cannot_be_built(service: dict[str, Any], field: str) -> None:
    with pytest.raises(ComposeError) as caught:
        builds(Plain({"services": {"a": service}}))
    assert caught.value.field == f"services.a.{field}"
