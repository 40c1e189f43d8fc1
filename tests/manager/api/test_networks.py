"""Networks as people see them, from the picture."""

from __future__ import annotations

import pytest

from cluster.errors import NotFound
from manager.api.networks import detail, networks
from tests.manager.decide.builders import Lab, a_service, a_stack


def test_who_has_which_address_is_told_of_ones_own_stacks() -> None:
    lab = Lab("n1", "n2")
    lab.deploy(a_stack("app", a_service("web", replicas=2)))
    lab.run_all()
    [network] = [one for one in networks(lab.state) if one.stack == "app"]
    found = detail(lab.state, network.id)
    assert found.network == network and network.endpoints == 2
    assert [(one.kind, one.name) for one in found.members] == [
        ("service", "app_web"), ("task", "app_web.1"), ("task", "app_web.2"),
    ]  # fmt: skip
    assert [one.node for one in found.members] == ["", *(lab.state.nodes[task.node or ""].name for task in lab.tasks())]
    addresses = [address for one in found.members for address in one.addresses]
    assert len(set(addresses)) == len(addresses) >= 3
    assert networks(lab.state, lambda stack: stack == "other") == []
    for ident, sees in ((network.id, "other"), ("nonsense", "app")):
        with pytest.raises(NotFound):
            detail(lab.state, ident, sees.__eq__)
