"""The rotation of the CA, step by step: what is trusted when, and who is waited for."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.codec import Record, encode, key_of
from cluster.model.cluster import Trust, TrustPhase
from cluster.model.node import Manager, Node, NodeDescription, Session, SessionState
from cluster.model.user import Credential, User
from cluster.pki import Authority, ca_digest, cross_signed, new_authority
from cluster.protocol import ROTATES
from manager.decide import rotation
from manager.picture import ClusterState

NOW = 1_700_000_000.0
OLD, NEW = (new_authority("c", now=NOW) for _ in range(2))
OLD_DIGEST, NEW_DIGEST = ca_digest(OLD.certificate), ca_digest(NEW.certificate)
BOTH = OLD_DIGEST, NEW_DIGEST


def begun(known: Trust | None = None, old: Authority = OLD, new: Authority = NEW) -> Trust:
    cross = cross_signed(new.certificate, by=old)
    return rotation.begun(known, old.certificate, new.certificate, cross, NOW)


SPREADING = begun()
RENEWING = rotation.renewing(SPREADING, NOW)


def picture(*records: Record) -> ClusterState:
    state = ClusterState()
    state.replace([(key_of(record), encode(record), 1) for record in records], 1)
    return state


def manager(name: str = "m1", trust: int = 0) -> Manager:
    return Manager(name, name, f"https://{name}", NOW, trust=trust)


def node(name: str = "n1", **session: Any) -> tuple[Record, Record]:
    description = NodeDescription(name, "10.0.0.1", "0", "1")
    known = Session(name, 1, "m1", SessionState.OPEN, NOW, description, version=ROTATES)
    return Node(name, name, "worker", NOW), replace(known, **session)


def user(*credentials: Credential) -> User:
    return User("ann", "admin", NOW, "root", credentials=credentials)


def waits_for(state: ClusterState, now: float = NOW) -> list[str]:
    """Whom it waits for; and no step is taken just while it waits for somebody."""
    missing = [one.name for one in rotation.missing(state, now)]
    assert (rotation.step(state, now) is None) is bool(missing)
    return missing


def test_without_a_rotation_nothing_is_done() -> None:
    for state in (picture(manager()), picture(manager(), replace(RENEWING, phase=TrustPhase.SETTLED))):
        assert rotation.step(state, NOW) is None and not list(rotation.missing(state, NOW))


def test_a_rotation_goes_through_its_phases() -> None:
    assert (SPREADING.generation, SPREADING.roots) == (1, (OLD.certificate, NEW.certificate))
    assert SPREADING.earlier == ()
    after = rotation.step(picture(SPREADING, manager(trust=1), *node(roots=BOTH)), NOW + 1)
    assert after == Trust(
        2, TrustPhase.RENEWING, NOW + 1, (NEW.certificate, OLD.certificate), SPREADING.cross, (OLD_DIGEST,)
    )
    end = rotation.step(picture(after, manager(trust=2), *node(signer=NEW_DIGEST)), NOW + 2)
    assert end == replace(after, generation=3, phase=TrustPhase.SETTLED, since=NOW + 2, roots=(NEW.certificate,))
    third = new_authority("c", now=NOW)
    again = begun(end, NEW, third)
    assert (again.generation, again.earlier) == (4, (OLD_DIGEST,))
    assert rotation.renewing(again, NOW).earlier == (OLD_DIGEST, NEW_DIGEST)


@pytest.mark.parametrize("trust", [SPREADING, RENEWING], ids=lambda one: str(one.phase))
def test_each_manager_that_lives_is_waited_for(trust: Trust) -> None:
    ready = manager("m1", trust.generation)
    assert waits_for(picture(trust, ready, manager("m2", trust.generation - 1))) == ["m2"]
    assert waits_for(picture(trust, ready)) == []


@pytest.mark.parametrize(
    ("session", "waits"),
    [
        pytest.param({"roots": BOTH}, False, id="it trusts both"),
        pytest.param({"roots": (OLD_DIGEST,)}, True, id="it trusts the old one"),
        pytest.param({}, True, id="it has said nothing"),
        pytest.param({"state": SessionState.CLOSED}, False, id="it is away"),
        pytest.param({"state": SessionState.SILENT}, False, id="it is silent"),
        pytest.param({"version": ROTATES - 1}, False, id="it knows nothing of roots"),
    ],
)
def test_before_the_new_root_signs_agents_that_are_there_know_it(session: dict[str, Any], waits: bool) -> None:
    state = picture(SPREADING, manager(trust=1), *node(**session))
    assert waits_for(state) == (["n1"] if waits else [])
    assert waits_for(state, NOW + rotation.SPREAD_WITHIN) == [], "it can trust the new one by the cross-certificate"


@pytest.mark.parametrize(
    ("session", "why"),
    [
        pytest.param({"signer": NEW_DIGEST}, "", id="it has renewed"),
        pytest.param({"signer": NEW_DIGEST, "state": SessionState.CLOSED}, "", id="it has renewed, and is away"),
        pytest.param({"signer": OLD_DIGEST}, "no certificate of the new root", id="it has not"),
        pytest.param({"state": SessionState.CLOSED}, "not connected", id="it is away"),
        pytest.param({"version": ROTATES - 1}, "cannot take another root", id="it is too old"),
    ],
)
def test_while_a_node_has_no_certificate_of_the_new_root_the_old_one_stays(session: dict[str, Any], why: str) -> None:
    state = picture(RENEWING, manager(trust=2), *node(**session))
    assert waits_for(state, NOW + 1e6) == (["n1"] if why else [])
    for one in rotation.missing(state, NOW):
        assert why in one.why
        assert one.absent is (session.get("signer") != OLD_DIGEST), "it comes by itself"


def test_a_node_that_never_came_is_waited_for_while_all_renew() -> None:
    unseen, _ = node()
    assert waits_for(picture(SPREADING, manager(trust=1), unseen)) == []
    assert waits_for(picture(RENEWING, manager(trust=2), unseen)) == ["n1"]


@pytest.mark.parametrize(
    ("credential", "waits"),
    [
        pytest.param(Credential("c1", "certificate", NOW, NOW + 9), True, id="from before the first rotation"),
        pytest.param(Credential("c1", "certificate", NOW, NOW + 9, signer=OLD_DIGEST), True, id="of the old root"),
        pytest.param(Credential("c1", "certificate", NOW, NOW + 9, signer=NEW_DIGEST), False, id="of the new root"),
        pytest.param(Credential("c1", "certificate", NOW - 9, NOW - 1), False, id="expired"),
        pytest.param(Credential("c1", "token", NOW), False, id="a token"),
    ],
)
def test_certificates_of_people_keep_the_old_root(credential: Credential, waits: bool) -> None:
    assert waits_for(picture(RENEWING, manager(trust=2), user(credential))) == (["c1 of ann"] if waits else [])
    assert waits_for(picture(SPREADING, manager(trust=1), user(credential))) == []


@pytest.mark.parametrize("signer", ["", OLD_DIGEST], ids=["from before the first rotation", "of the root before"])
def test_who_was_left_out_of_a_rotation_is_not_waited_for_in_the_next(signer: str) -> None:
    third = new_authority("c", now=NOW)
    again = rotation.renewing(begun(rotation.settled(RENEWING, NOW), NEW, third), NOW)
    left_out = user(Credential("c1", "certificate", NOW, NOW + 9, signer=signer))
    gone = node(signer=OLD_DIGEST, state=SessionState.CLOSED)
    assert waits_for(picture(again, manager(trust=again.generation), left_out, *gone)) == []
    waiting = replace(left_out, credentials=(Credential("c2", "certificate", NOW, NOW + 9, signer=NEW_DIGEST),))
    behind = node(signer=NEW_DIGEST, state=SessionState.CLOSED)
    assert waits_for(picture(again, manager(trust=again.generation), waiting, *behind)) == ["n1", "c2 of ann"]


NODES = st.fixed_dictionaries(
    {
        "roots": st.sampled_from([(), (OLD_DIGEST,), BOTH, (NEW_DIGEST,)]),
        "signer": st.sampled_from(["", OLD_DIGEST, NEW_DIGEST]),
        "state": st.sampled_from(SessionState),
        "version": st.sampled_from([ROTATES - 1, ROTATES]),
    }
)


@given(st.lists(NODES, max_size=4), st.lists(st.integers(0, 3), max_size=3), st.floats(0, 200))
def test_whatever_is_there_each_step_keeps_whom_it_must(
    sessions: list[dict[str, Any]], managers: list[int], later: float
) -> None:
    others = [record for number, fields in enumerate(sessions) for record in node(f"n{number}", **fields)]
    others += [manager(f"m{number}", trust) for number, trust in enumerate(managers)]
    for trust in (SPREADING, RENEWING):
        after = rotation.step(picture(trust, *others), NOW + later)
        if after is None:
            continue
        assert after.generation == trust.generation + 1 and after.since == NOW + later
        assert all(known >= trust.generation for known in managers)
        assert set(after.roots) <= set(trust.roots), "no root comes that nobody was told of"
        if after.phase is TrustPhase.SETTLED:
            assert all(fields["signer"] == NEW_DIGEST for fields in sessions)
        else:
            assert set(after.roots) == set(trust.roots), "nobody is cut off when another root signs"
