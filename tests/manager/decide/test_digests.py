"""What digests of images make of the next revision: which services get new tasks, and what each revision keeps."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision, StackSpec
from manager.decide.revisions import Resolved, revised

OLD, NEW = "sha256:old", "sha256:new"
PLATFORMS = ("linux/amd64",)
WEB = ServiceSpec("web", ContainerSpec("i:1"))
DB = ServiceSpec("db", ContainerSpec("d:1"))


def stack(*services: ServiceSpec) -> StackSpec:
    return StackSpec("shop", {one.name: one for one in services})


def following(
    known: dict[int, StackRevision], spec: StackSpec, digests: dict[str, str], source: int | None = None
) -> StackRevision:
    n = len(known) + 1
    then = None if source is None else known[source]
    back = () if source is None else tuple(spec.services)
    resolved = {name: Resolved(digest, PLATFORMS) for name, digest in digests.items()}
    found = revised(known.get(n - 1), known, spec, "s", n, "u".__add__, back=back, source=then, resolved=resolved)
    known[n] = found
    return found


def container(**fields: Any) -> ServiceSpec:
    return replace(WEB, container=replace(WEB.container, **fields))


@pytest.mark.parametrize(
    ("first", "second", "resolved", "version", "digest"),
    [
        pytest.param({"web": OLD}, WEB, {"web": OLD}, 1, OLD, id="the same image"),
        pytest.param({"web": OLD}, WEB, {"web": NEW}, 2, NEW, id="another image under the same name"),
        pytest.param({"web": OLD}, WEB, {}, 1, OLD, id="nobody knows, or was asked"),
        pytest.param({}, WEB, {}, 1, None, id="nobody ever knew"),
        pytest.param({}, WEB, {"web": NEW}, 2, NEW, id="what ran may have been anything"),
        pytest.param({"web": OLD}, container(image="i:2"), {}, 2, None, id="the digest was that of another name"),
        pytest.param({"web": OLD}, container(image="i:2"), {"web": NEW}, 2, NEW, id="another name, known"),
        pytest.param({"web": OLD}, replace(WEB, replicas=5), {}, 1, OLD, id="scaled"),
        pytest.param({"web": OLD}, container(pull_policy="never"), {}, 2, None, id="only what the nodes have may run"),
    ],
)
def test_a_service_gets_new_tasks_when_its_image_is_another_one(
    first: dict[str, str], second: ServiceSpec, resolved: dict[str, str], version: int, digest: str | None
) -> None:
    known: dict[int, StackRevision] = {}
    following(known, stack(WEB, DB), first)
    found = following(known, stack(second, DB), resolved)
    assert found.services["web"].version == version
    assert found.image_digests.get("web") == digest
    assert found.image_platforms.get("web") == (PLATFORMS if digest else None), "kept and dropped with the digest"
    assert found.services["db"].version == 1, "other services stay"


def test_going_back_brings_the_image_of_then_and_the_tasks_that_still_run_it() -> None:
    known: dict[int, StackRevision] = {}
    following(known, stack(WEB), {"web": OLD})
    following(known, stack(WEB), {"web": NEW})
    found = following(known, stack(WEB), {}, source=1)
    assert found.image_digests == {"web": OLD}
    assert (found.services["web"].version, found.services["web"].rollback) == (1, True)


def test_going_back_to_when_nobody_knew_is_going_back_to_the_tag() -> None:
    known: dict[int, StackRevision] = {}
    following(known, stack(WEB), {})
    following(known, stack(WEB), {"web": NEW})
    assert following(known, stack(WEB), {}, source=1).image_digests == {}
