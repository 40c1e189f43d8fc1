"""Some rounds of chaos, always the same ones, and that the judges of them would find what they look for."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import pytest

from cli.client.contexts import chosen as context
from cli.lab import Lab
from tests import own
from tests.chaos import blows, calm
from tests.chaos.blows import Blow, Kind
from tests.chaos.history import Outcome, Read, Stored, Write, contradictions
from tests.chaos.rounds import NODES, Chaos

ROUNDS, SEED = 4, 5


@pytest.mark.lab
@pytest.mark.root
@pytest.mark.timeout(2400)
def test_whatever_is_struck_nothing_acknowledged_is_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name, subnet = own.place(own.CHAOS)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    said: list[str] = []
    lab = Lab(name, subnet)
    lab.down()
    try:
        lab.up(nodes=3, managers=3)
        chaos = Chaos(lab, SEED, said.append)
        chaos.begin(context(name))
        for _ in range(ROUNDS):
            chaos.round()
        assert chaos.leaks() == []
    except BaseException as error:
        error.add_note("\n".join(said))
        raise
    finally:
        lab.down()
    assert len(chaos.people.account.writes) > ROUNDS


WRITES = [
    Write("a", "red", 1.0, 2.0, Outcome.ACKNOWLEDGED, 1),
    Write("b", "red", 3.0, 4.0, Outcome.UNKNOWN),
    Write("c", "red", 5.0, 6.0, Outcome.ACKNOWLEDGED, 3),
    Write("d", "red", 5.5, 6.5, Outcome.REFUSED),
    Write("e", "red", 7.0, 8.0, Outcome.ACKNOWLEDGED, 3, changed=False),
]
STORED = [Stored("red", 1, "a", 11), Stored("red", 2, "b", 12), Stored("red", 3, "c", 13)]
READS = [Read("red", 1, "a"), Read("red", 3, "c")]


@pytest.mark.parametrize(
    ("writes", "reads", "stored", "told"),
    [
        pytest.param(WRITES, READS, STORED, "", id="all is well"),
        pytest.param(WRITES, READS, [*STORED[:2], replace(STORED[2], mark="x")], "was acknowledged", id="lost"),
        pytest.param(WRITES, [], [*STORED, Stored("red", 4, "c", 14)], "was written 2 times", id="twice"),
        pytest.param(WRITES, READS, [*STORED, Stored("red", 4, "d", 14)], "was refused, and written", id="refused"),
        pytest.param(WRITES, READS, [*STORED, Stored("red", 5, "x", 14)], "came after revision 3", id="a gap"),
        pytest.param(WRITES, [Read("red", 2, "x")], STORED, "which etcd never had", id="a read of nothing"),
        pytest.param(
            [replace(WRITES[0], began=6.5, ended=7.0), *WRITES[1:]], READS, STORED, "began after", id="out of order"
        ),
    ],
)
def test_what_was_answered_is_held_against_what_was_stored(
    writes: list[Write], reads: list[Read], stored: list[Stored], told: str
) -> None:
    found = list(contradictions(writes, reads, stored))
    assert bool(found) is bool(told)
    assert all(told in one for one in found[:1])


def test_a_seed_chooses_the_same_blows_and_no_two_to_one_thing() -> None:
    for seed in range(200):
        one, again = (blows.chosen(random.Random(seed), NODES) for _ in range(2))
        assert one == again and one
        without_power = {blow.node for blow in one if blow.kind is Kind.POWER}
        assert all(blow.kind is Kind.POWER for blow in one if blow.node in without_power)
        struck = [(blow.node, blow.program or blow.kind) for blow in one]
        assert len(set(struck)) == len(struck)


def test_only_what_a_blow_explains_may_be_touched() -> None:
    there = calm.Container("c1", "t1", calm.STACK, "12:00")
    others = calm.Container("c2", "t2", "red", "12:00")
    before = {"n1": [there, others], "n2": []}
    touched = {"n1": [replace(there, started_at="12:01")], "n2": []}
    assert list(calm.disturbed(before, before, set())) == []
    assert len(list(calm.disturbed(before, touched, set()))) == 1
    assert list(calm.disturbed(before, touched, {"n1"})) == []
    strikes = [
        Blow(Kind.CUT, "n1", "", 0.0, 1.0),
        Blow(Kind.PAUSE, "n2", "engine", 0.0, 20.0),
        Blow(Kind.PAUSE, "n3", "agent", 0.0, 20.0),
    ]
    assert calm.with_cause(strikes, grace=15.0) == {"n1", "n3"}
