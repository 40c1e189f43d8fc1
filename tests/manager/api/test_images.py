"""Images of a deploy: what is looked up, what comes of the answers, and what is told of those that nobody knows."""

from __future__ import annotations

import itertools
from dataclasses import replace
from typing import Any

import pytest

from cluster import codec
from cluster.codec import Record
from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.model.stack import StackRevision, StackSpec
from cluster.protocol import ImagesResolved
from cluster.views import DeployRequest, ResolveImage, RevisionReply, RollbackRequest, ScaleRequest
from manager.api import revise
from manager.api.changes import changes
from manager.api.images import images_to_resolve, resolved, unresolved
from manager.picture import ClusterState, Event

OLD, NEW = "sha256:old", "sha256:new"
PLATFORMS = ("linux/amd64", "linux/arm64/v8")


def service(name: str, image: str, **more: Any) -> ServiceSpec:
    return ServiceSpec(name, ContainerSpec(image, **more))


WEB, DB = service("web", "web:1"), service("db", "db:1")


class Shop:
    """A stack and all that was written of it."""

    def __init__(self) -> None:
        self.records: dict[str, Record] = {}
        self._uids = (f"u{number}" for number in itertools.count())
        self._operations = (f"op{number}" for number in itertools.count())

    @property
    def state(self) -> ClusterState:
        state = ClusterState()
        state.apply([Event(key, codec.encode(record), 5) for key, record in self.records.items()], 5)
        return state

    def request(self, *services: ServiceSpec, how: ResolveImage = "always") -> DeployRequest:
        spec = StackSpec("shop", {one.name: one for one in services})
        return DeployRequest(spec, next(self._operations), resolve_image=how)

    def deploy(self, digests: dict[str, str], *services: ServiceSpec, how: ResolveImage = "always") -> StackRevision:
        request = self.request(*services, how=how)
        images = resolved(ImagesResolved("", digests, platforms={image: PLATFORMS for image in digests}))
        return self._written(revise.deploy(self.state, "shop", request, "ann", 9.0, self._uid, images))

    def scale(self, **replicas: int) -> StackRevision:
        request = ScaleRequest(replicas, next(self._operations))
        return self._written(revise.change(self.state, "shop", request, "ann", 9.0, self._uid))

    def back(self, n: int | None = None, *services: str) -> StackRevision:
        request = RollbackRequest(next(self._operations), n, services)
        return self._written(revise.change(self.state, "shop", request, "ann", 9.0, self._uid))

    def _uid(self) -> str:
        return next(self._uids)

    def _written(self, outcome: revise.Write | RevisionReply) -> StackRevision:
        if isinstance(outcome, revise.Write):
            self.records.update((codec.key_of(record), record) for record in outcome.records)
        state = self.state
        stack = state.stacks["shop"]
        return state.revisions[stack.uid][stack.head]


@pytest.mark.parametrize(
    ("how", "services", "asked"),
    [
        pytest.param("always", (WEB, DB), ("db:1", "web:1"), id="all"),
        pytest.param("always", (WEB, replace(WEB, name="two")), ("web:1",), id="each once"),
        pytest.param("always", (service("web", f"web@{OLD}"),), (), id="said by digest"),
        pytest.param("always", (service("web", "sha256:12"),), (), id="said by id"),
        pytest.param("always", (service("web", "web:1", pull_policy="never"),), (), id="not to be pulled"),
        pytest.param("changed", (service("web", "web:2"), DB), ("web:2",), id="what changed"),
        pytest.param("changed", (WEB, DB, service("new", "n:1")), ("n:1",), id="what is new"),
        pytest.param("never", (service("web", "web:2"), DB), (), id="none"),
    ],
)
def test_images_are_looked_up_as_asked(
    how: ResolveImage, services: tuple[ServiceSpec, ...], asked: tuple[str, ...]
) -> None:
    shop = Shop()
    shop.deploy({}, WEB, DB)
    assert images_to_resolve(shop.state, shop.request(*services, how=how)) == asked


def test_an_image_that_is_another_one_now_makes_a_revision_and_the_same_makes_none() -> None:
    shop = Shop()
    assert shop.deploy({"web:1": OLD, "db:1": OLD}, WEB, DB).image_digests == {"web": OLD, "db": OLD}
    assert shop.deploy({"web:1": OLD, "db:1": OLD}, WEB, DB).n == 1
    assert shop.deploy({}, WEB, DB).n == 1, "nobody knew"
    before = shop.deploy({"web:1": OLD, "db:1": OLD}, WEB, DB)
    found = shop.deploy({"web:1": NEW, "db:1": OLD}, WEB, DB)
    assert (found.n, found.services["web"].version, found.services["db"].version) == (2, 2, 1)
    assert changes(before, found) == ("web: image web:1 is now sha256:new",)


def test_what_is_not_to_be_looked_up_keeps_what_it_has() -> None:
    shop = Shop()
    shop.deploy({"web:1": OLD}, WEB)
    assert shop.deploy({"web:1": NEW}, WEB, how="changed").n == 1
    assert shop.deploy({"web:1": NEW}, WEB, how="never").n == 1
    found = shop.scale(web=3)
    assert (found.image_digests, found.image_platforms) == ({"web": OLD}, {"web": PLATFORMS})


def test_a_rollback_brings_back_digests() -> None:
    shop = Shop()
    shop.deploy({"web:1": OLD, "db:1": OLD}, WEB, DB)
    shop.deploy({"web:1": NEW, "db:1": NEW}, WEB, DB)
    assert shop.back(None, "web").image_digests == {"web": OLD, "db": NEW}
    found = shop.back(1)
    assert found.image_digests == {"web": OLD, "db": OLD}
    assert {name: version.version for name, version in found.services.items()} == {"web": 1, "db": 1}
    assert shop.back().image_digests == {"web": OLD, "db": NEW}, "the newest in which it was different"


@pytest.mark.parametrize(
    ("first", "problems", "told"),
    [
        pytest.param({}, {}, (), id="all known"),
        pytest.param(
            {},
            {"web:1": "no such image"},
            ("image web:1 could not be looked up (no such image); web: what the tag means on each node runs",),
            id="the tag",
        ),
        pytest.param(
            {"web:1": OLD},
            {"web:1": "silence", "db:1": "silence"},
            (
                "image db:1 (and 1 more) could not be looked up (silence); "
                "db: what the tag means on each node runs; web: the digest of before stays",
            ),
            id="tag and digest",
        ),
    ],
)
def test_one_note_tells_what_is_not_known(
    first: dict[str, str], problems: dict[str, str], told: tuple[str, ...]
) -> None:
    shop = Shop()
    found = shop.deploy(first, WEB, DB)
    reply = RevisionReply("shop", found.stack_uid, found.n, changed=True)
    assert unresolved(shop.state, reply, problems) == told
