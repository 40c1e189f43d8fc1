"""Containers that were started by hand: when they have addresses, and when these are free again."""

from __future__ import annotations

import dataclasses

import pytest

from cluster.assignments import AttachmentItem, PeerItem
from cluster.model.attachment import Attachment, AttachmentReport, AttachmentState, sandbox_of
from cluster.model.network import NetworkSpec
from cluster.protocol import ATTACHES
from manager.decide.attachments import LOOKED_FOR, SHOWN, problem_of
from manager.decide.reaper import ORPHANED_AFTER
from manager.sessions.assignments import assignments
from tests.manager.decide.builders import NOW, Lab, a_service, a_stack

FOUND, ATTACHED, ENDED, GONE = (AttachmentState(word) for word in ("found", "attached", "ended", "gone"))
CONTAINER = "c0ffee" * 10


def a_lab(*subnets: str) -> Lab:
    lab = Lab("n1", "n2")
    spec = NetworkSpec("default", "app_default", subnets=subnets, attachable=True)
    lab.deploy(a_stack("app", a_service("web"), networks=(spec,)))
    lab.run_all()
    return lab


def attach(lab: Lab, *addresses: str) -> Attachment:
    [network] = lab.state.networks
    made = Attachment("a1", network, "debug", NOW, "id-n1", CONTAINER, ("debug", "probe"), addresses)
    lab.write(made)
    lab.settle()
    return made


def say(lab: Lab, state: AttachmentState, *, node: str = "n1") -> None:
    lab.session(node, attachments={"a1": AttachmentReport(state, "", CONTAINER, "debug", lab.now)})
    lab.settle()


def addresses(lab: Lab) -> tuple[str, ...]:
    [network] = lab.state.networks
    return lab.state.addresses_of("a1").get(network, ())


def test_addresses_are_given_when_it_is_found_and_freed_only_on_the_word_that_it_is_over() -> None:
    lab = a_lab()
    attach(lab)
    assert addresses(lab) == ()
    say(lab, FOUND)
    given = addresses(lab)
    assert len(given) == 1
    for state in (ATTACHED, AttachmentState.WAITING):
        say(lab, state)
        assert addresses(lab) == given
    say(lab, ENDED)
    assert addresses(lab) == () and "a1" in lab.state.attachments
    say(lab, FOUND)
    assert addresses(lab) not in ((), given), "it runs again, with what is free by now"
    say(lab, GONE)
    assert addresses(lab) == () and "a1" in lab.state.attachments, "it is told for a while"
    lab.wait(SHOWN)
    assert not lab.state.attachments


def test_one_that_is_taken_off_is_forgotten_once_its_node_has_let_go() -> None:
    lab = a_lab()
    made = attach(lab)
    say(lab, FOUND)
    say(lab, ATTACHED)
    lab.write(dataclasses.replace(made, removing=True))
    lab.settle()
    assert addresses(lab)
    say(lab, GONE)
    assert not lab.state.attachments and not lab.state.claims_of.get("a1")


def test_one_that_was_never_wired_is_forgotten_at_once() -> None:
    lab = a_lab()
    lab.write(dataclasses.replace(attach(lab), removing=True))
    lab.settle()
    assert not lab.state.attachments


@pytest.mark.parametrize("how", ["left", "down"])
def test_one_on_a_node_that_does_not_come_back_is_given_up(how: str) -> None:
    lab = a_lab()
    attach(lab)
    say(lab, FOUND)
    if how == "left":
        lab.write(delete=(lab.state.nodes["id-n1"],))
        lab.settle()
    else:
        lab.fall_silent("n1")
        lab.wait(60)
        assert addresses(lab)
        lab.wait(ORPHANED_AFTER)
    assert not lab.state.attachments and not lab.state.claims_of.get("a1")


def test_a_question_that_nobody_answers_is_not_asked_for_ever() -> None:
    lab = a_lab()
    lab.write(Attachment("q", next(iter(lab.state.networks)), "debug", lab.now))
    lab.settle()
    assert "q" in lab.state.attachments
    lab.wait(LOOKED_FOR)
    assert not lab.state.attachments


def test_a_network_stays_for_as_long_as_something_is_attached() -> None:
    lab = a_lab()
    attach(lab)
    say(lab, FOUND)
    lab.remove("app")
    lab.run_all()
    assert len(lab.state.networks) == 1 and not lab.state.services
    say(lab, ENDED)
    lab.run_all()
    assert not lab.state.networks and not lab.state.stacks and not lab.state.attachments


def test_why_there_is_no_address_is_told_and_one_that_comes_free_is_given() -> None:
    lab = a_lab("10.9.0.0/29")
    [vip], [task] = lab.state.addresses_of(next(iter(lab.state.services))).values(), lab.task().endpoints
    made = attach(lab, task.addresses[0])
    say(lab, FOUND)
    assert f"address {task.addresses[0]} of network app_default is taken by task app_web.1" in problem_of(
        lab.state, made
    )
    assert addresses(lab) == () and vip
    lab.deploy(a_stack("app", a_service("web", replicas=0), networks=(NetworkSpec(
        "default", "app_default", subnets=("10.9.0.0/29",), attachable=True),)))  # fmt: skip
    lab.run_all()
    assert addresses(lab) == task.addresses


@pytest.mark.parametrize("version", [ATTACHES - 1, ATTACHES])
def test_what_nodes_are_told(version: int) -> None:
    lab = a_lab()
    lab.session("n1", version=version)
    attach(lab)
    say(lab, FOUND)
    say(lab, ATTACHED)
    told = assignments(lab.state, "id-n1")
    item = told.get("attachment/a1")
    assert isinstance(item, AttachmentItem) == (version == ATTACHES)
    [network] = lab.state.networks
    if isinstance(item, AttachmentItem):
        assert item.endpoint is not None and item.endpoint.addresses == addresses(lab)
        assert item.sandbox == sandbox_of(CONTAINER)
        assert f"network/{network}" in told, "also on a node without a task in it"
    peer = assignments(lab.state, "id-n2").get(f"peer/{network}/a1") or told.get(f"peer/{network}/a1")
    assert isinstance(peer, PeerItem)
    assert (peer.ready, peer.aliases, peer.service, peer.addresses) == (True, ("debug", "probe"), "", addresses(lab))


def test_those_that_are_looked_for_everywhere_are_told_to_all() -> None:
    lab = a_lab()
    lab.write(Attachment("q", next(iter(lab.state.networks)), "debug", lab.now))
    assert all("attachment/q" in assignments(lab.state, f"id-{node}") for node in ("n1", "n2"))
