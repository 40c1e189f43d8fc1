"""The table of verdicts covers the Compose Specification, and the README shows it as it is."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.compose import support
from cluster.compose.convert.verdicts import TABLE, WHOLE, Depends, Refused, Translated, accept_name, acceptable
from tests.cluster.compose.convert.specification import KEYS


def covered(pattern: str) -> bool:
    """Tell whether a pattern, or a key that it goes with, has a verdict."""
    parts = pattern.split(".")
    if any(".".join(parts[: n + 1]) in WHOLE for n in range(len(parts) - 1)):
        return True
    return parts[-1] in TABLE.get(".".join(parts[:-1]), {})


@pytest.mark.parametrize("pattern", sorted(KEYS))
def test_every_key_of_the_specification_has_a_verdict(pattern: str) -> None:
    assert covered(pattern)


def test_the_table_has_no_key_that_compose_does_not_know() -> None:
    known = {f"{pattern}.{key}".lstrip(".") for pattern, rules in TABLE.items() for key in rules}
    options = {f"networks.*.driver_opts.{key}" for key in ("*", "encrypted", "com.docker.network.driver.mtu")}
    own = {f"services.*.x-{key}" for key in ("on-disconnect", "max-concurrent", "ingress", "sticky", "managers")}
    assert known - KEYS == {*options, *own, "x-stackyard"}


def test_every_refusal_says_why_and_every_translation_to_what() -> None:
    for pattern, rules in TABLE.items():
        for key, rule in rules.items():
            match rule:
                case Refused(why, instead):
                    assert why and why[0].islower() and not why.endswith("."), (pattern, key)
                    assert not instead or instead.endswith("."), (pattern, key)
                case Translated(to):
                    assert to and not to.endswith("."), (pattern, key)
                case Depends(told):
                    assert told, (pattern, key)


@pytest.mark.parametrize(
    ("pattern", "key", "name"),
    [
        ("services.*", "post_start", "post_start"),
        ("services.*.deploy", "update_config", "deploy.update_config"),
        ("services.*.networks.*", "link_local_ips", "networks.link_local_ips"),
        ("services.*.ports.[]", "host_ip", "ports.host_ip"),
        ("networks.*.ipam.config.[]", "gateway", "networks.ipam.config.gateway"),
        ("", "models", "models"),
    ],
)
def test_the_name_by_which_a_file_accepts(pattern: str, key: str, name: str) -> None:
    assert accept_name(pattern, key) == name
    assert name in acceptable()


def test_the_readme_is_current() -> None:
    readme = (Path(__file__).parents[4] / "README.md").read_text()
    assert support.renewed(readme) == readme, "run python -m cluster.compose.support README.md"


def test_a_text_without_markers_is_refused() -> None:
    with pytest.raises(ValueError, match="has no"):
        support.renewed("nothing here")
