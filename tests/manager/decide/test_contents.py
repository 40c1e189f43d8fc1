"""What is in secrets and configs goes when no revision needs it any more, and what is sealed goes with its record."""

from __future__ import annotations

from dataclasses import replace

from cluster.codec import sealed_key
from cluster.model.container import FileReference
from cluster.model.secret import Content, stack_owner
from cluster.model.stack import StackSpec
from manager.decide.stacks import CONTENT_GRACE, REVISIONS_KEPT
from manager.etcd.records import Put
from tests.manager.decide.builders import Lab, a_service, a_stack


def using(digest: str) -> StackSpec:
    service = a_service("web")
    files = (FileReference("pw", "/run/secrets/pw", digest=digest),)
    return a_stack("app", replace(service, container=replace(service.container, secrets=files)))


def store(lab: Lab, digest: str) -> None:
    """As a deploy does before its revision."""
    lab.write(Content(stack_owner("app"), digest, 5, "k", lab.now))
    lab.store.txn((), [Put(sealed_key(stack_owner("app"), digest), b"sealed")])
    lab.catch_up()


def left(lab: Lab) -> tuple[set[str], set[str]]:
    """The digests with records, and those that are sealed."""
    sealed = {key.rpartition("/")[2] for key in lab.store.keys if key.startswith("/stackyard/sealed/")}
    return set(lab.state.contents.get(stack_owner("app"), {})), sealed


def test_a_content_stays_while_a_revision_needs_it_and_goes_after_the_last() -> None:
    lab = Lab("n1")
    for n in range(REVISIONS_KEPT + 2):
        store(lab, f"d{n}")
        lab.deploy(using(f"d{n}"))
        lab.run_all()
        lab.wait(CONTENT_GRACE + 1)
    lab.run_all()
    kept = {f"d{n}" for n in range(2, REVISIONS_KEPT + 2)}
    assert left(lab) == (kept, kept), "as many as there are revisions to go back to"


def test_a_content_whose_revision_is_on_its_way_is_left_in_peace_for_a_while() -> None:
    lab = Lab("n1")
    store(lab, "d1")
    lab.deploy(using("d1"))
    lab.run_all()
    store(lab, "d2")
    lab.settle()
    assert left(lab)[0] == {"d1", "d2"}
    lab.deploy(using("d2"))
    lab.wait(CONTENT_GRACE + 1)
    lab.run_all()
    assert left(lab)[0] == {"d1", "d2"}
    store(lab, "d3")
    lab.deploy(a_stack("app", a_service("web")))
    lab.run_all()
    lab.wait(CONTENT_GRACE + 1)
    lab.run_all()
    assert left(lab) == ({"d1", "d2"}, {"d1", "d2"}), "one whose deploy never came goes in the end"


def test_a_stack_that_goes_takes_its_contents_along() -> None:
    lab = Lab("n1")
    store(lab, "d1")
    lab.deploy(using("d1"))
    lab.run_all()
    lab.remove("app")
    lab.run_all()
    assert left(lab) == (set(), set())
    assert "content" not in lab.keys()
