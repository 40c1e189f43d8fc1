"""Which services of a new revision get new tasks, and what of depends_on no cluster could keep."""

from __future__ import annotations

from dataclasses import replace

import pytest

from cluster.errors import UserError
from cluster.model.container import ContainerSpec
from cluster.model.service import Dependency, Reservations, ServiceMode, ServiceSpec
from cluster.model.stack import StackSpec
from manager.api.revise import check
from manager.decide.dependencies import circle
from manager.decide.revisions import revised


def service(name: str, image: str = "i:1", **on: Dependency) -> ServiceSpec:
    return ServiceSpec(name, ContainerSpec(image), depends_on=on)


def stack(*services: ServiceSpec) -> StackSpec:
    return StackSpec("shop", {one.name: one for one in services})


def second(before: StackSpec, after: StackSpec, *force: str) -> tuple[dict[str, int], set[str]]:
    """The versions of a stack's second revision, and which services kept their uid."""
    first = revised(None, {}, before, "s", 1, "u".__add__)
    found = revised(first, {1: first}, after, "s", 2, "v".__add__, forced=force).services
    kept = {name for name, one in found.items() if name in first.services and first.services[name].uid == one.uid}
    return {name: one.version for name, one in found.items()}, kept


RESTART, STAY = Dependency(restart=True), Dependency()
CHAIN = (service("db"), service("web", db=RESTART), service("proxy", web=RESTART), service("job", db=STAY))


def test_only_what_changed_gets_new_tasks() -> None:
    before = stack(service("db"), service("web"))
    assert second(before, stack(service("db"), service("web", "i:2"))) == ({"db": 1, "web": 2}, {"db", "web"})


def test_more_is_reserved_by_new_tasks_and_less_by_those_that_run() -> None:
    def reserving(memory: int, gpus: int = 0) -> StackSpec:
        return stack(replace(service("db"), reservations=Reservations(memory=memory, generic={"gpu": gpus})))

    assert second(reserving(2), reserving(3))[0] == {"db": 2}
    assert second(reserving(2), reserving(2, gpus=1))[0] == {"db": 2}
    assert second(reserving(2, gpus=1), reserving(1))[0] == {"db": 1}


def test_those_that_are_to_be_restarted_with_another_follow_it_down_the_chain() -> None:
    after = stack(service("db", "i:2"), *CHAIN[1:])
    assert second(stack(*CHAIN), after)[0] == {"db": 2, "web": 2, "proxy": 2, "job": 1}


def test_what_is_new_restarts_nobody() -> None:
    before = stack(service("web"))
    assert second(before, stack(service("db"), service("web", db=RESTART)))[0] == {"db": 2, "web": 1}


def test_a_forced_service_gets_new_tasks_and_takes_its_followers_along() -> None:
    assert second(stack(*CHAIN), stack(*CHAIN), "web")[0] == {"db": 1, "web": 2, "proxy": 2, "job": 1}


def test_another_mode_makes_another_service() -> None:
    after = stack(replace(service("web"), mode=ServiceMode.GLOBAL))
    assert second(stack(service("web")), after) == ({"web": 2}, set())


@pytest.mark.parametrize(
    ("services", "expected"),
    [
        pytest.param(CHAIN, [], id="a chain"),
        pytest.param((service("a", b=STAY, c=STAY), service("b", c=STAY), service("c")), [], id="two ways"),
        pytest.param((service("a", a=STAY),), ["a", "a"], id="itself"),
        pytest.param((service("a"), service("b", c=STAY), service("c", b=STAY)), ["b", "c", "b"], id="a circle"),
    ],
)
def test_circles_are_found(services: tuple[ServiceSpec, ...], expected: list[str]) -> None:
    assert circle(stack(*services)) == expected


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        pytest.param(stack(service("web", db=STAY)), "services.web.depends_on: .* no service db", id="missing"),
        pytest.param(stack(service("web", web=STAY)), "wait for each other: web -> web", id="circle"),
        pytest.param(
            stack(
                replace(service("job"), mode=ServiceMode.REPLICATED_JOB),
                service("web", job=Dependency("service_healthy")),
            ),
            r"services.web.depends_on.job: a job ends",
            id="healthy job",
        ),
        pytest.param(stack(replace(service("web"), max_concurrent=-1)), "max_concurrent: -1", id="less than none"),
    ],
)
def test_what_no_cluster_could_keep_is_refused(spec: StackSpec, told: str) -> None:
    with pytest.raises(UserError, match=told):
        check(spec)


def test_one_that_is_not_required_may_be_missing() -> None:
    check(stack(service("web", db=Dependency(required=False))))
