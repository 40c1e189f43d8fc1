"""`stack doctor` against a whole manager, with agents that say what they are told to."""

from __future__ import annotations

import pytest

from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd


async def test_what_is_wrong_is_told_until_it_is_mended(person: Terminal, manager: RunningManager) -> None:
    async with obedient(manager, "n1") as one, obedient(manager, "n2", address="127.0.0.2"):
        said = await person.stack("doctor")
        assert (said.code, said.out) == (0, "Examined 2 nodes, 2 ways between them: nothing is wrong.\n")
        one.passes = 1400
        said = await person.stack("doctor")
        assert said.code == 1
        head, first, _, last = said.out.splitlines()
        assert head.split() == ["WHERE", "WHAT", "REMEDY"]
        assert first.startswith("n1 -> n2  packets of up to 1400 bytes pass, its networks send up to 1500  Raise the")
        assert last == "Examined 2 nodes, 2 ways between them: 1 thing is wrong."
        said = await person.stack("doctor", "--format", "json")
        assert said.code == 1 and [f["kind"] for f in said.json["findings"]] == ["mtu"]
        one.passes = 1500
        assert (await person.stack("doctor")).code == 0
    said = await person.stack("doctor")
    assert said.code == 1 and "n1     it was not examined: " in said.out
