"""Networks that are to be encrypted, and that nothing else that is written there passes for clear text."""

from __future__ import annotations

import pytest

from cluster.errors import ComposeError
from tests.cluster.compose.convert.plain import stack


def is_encrypted(value: object) -> bool:
    networks = {"n": {"driver_opts": {"encrypted": value}}}
    return stack({"a": {"image": "x", "networks": {"n": None}}}, networks=networks).networks["n"].encrypted


@pytest.mark.parametrize(
    ("value", "encrypted"),
    [("", True), ("true", True), ("1", True), ("false", False), ("0", False)],
    ids=repr,
)
def test_what_means_encrypted(value: object, encrypted: bool) -> None:
    assert is_encrypted(value) is encrypted


def test_networks_are_clear_unless_it_is_asked() -> None:
    assert not stack({"a": {"image": "x"}}).networks["default"].encrypted


@pytest.mark.parametrize("value", ["yes", "on", "ipsec", "False "], ids=repr)
def test_what_cannot_be_understood_is_refused(value: str) -> None:
    with pytest.raises(ComposeError, match="neither true nor false") as refused:
        is_encrypted(value)
    assert refused.value.field == "networks.n.driver_opts.encrypted"
