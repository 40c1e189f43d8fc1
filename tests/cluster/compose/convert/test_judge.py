"""A project held to the table: by keys and values, as written and as short forms stand for; and what files accept."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.compose.convert import convert, judge
from cluster.compose.convert.judge import Judged, allowed
from cluster.errors import ComposeError
from tests.cluster.compose.convert.plain import Plain, paths, refused, service


def verdicts(fields: dict[str, Any], **top: Any) -> dict[str, str]:
    model = {"services": {"a": {"image": "x", **fields}}, **top}
    return {".".join(map(str, one.path)): one.word for one in judge(Plain(model))}


def only(fields: dict[str, Any], **top: Any) -> Judged:
    """Give the one verdict that is not honoured."""
    model = {"services": {"a": {"image": "x", **fields}}, **top}
    (found,) = (one for one in judge(Plain(model)) if one.word != "honoured")
    return found


def test_every_used_key_is_told_and_names_of_ones_own_are_not() -> None:
    found = verdicts(
        {"environment": {"A": "1"}, "expose": ["80"], "deploy": {"labels": {"b": "c"}}, "x-mine": {"d": 1}},
        networks={"n": {"name": "n"}},
    )
    assert found == {
        "services": "honoured",
        "services.a.image": "honoured",
        "services.a.environment": "honoured",
        "services.a.expose": "translated",
        "services.a.deploy": "honoured",
        "services.a.deploy.labels": "honoured",
        "networks": "honoured",
        "networks.n.name": "honoured",
    }


@pytest.mark.parametrize(
    ("fields", "key", "word"),
    [
        ({"build": {"context": "/c", "no_cache": True}}, "build", "translated"),
        ({"image": None, "build": {"context": "/c"}}, "build", "refused"),
        ({"network_mode": "bridge"}, "network_mode", "translated"),
        ({"network_mode": "service:b"}, "network_mode", "refused"),
        ({"network_mode": "mine"}, "network_mode", "refused"),
        ({"pid": "container:b"}, "pid", "refused"),
        ({"ipc": "service:b"}, "ipc", "refused"),
        ({"pull_policy": "build"}, "pull_policy", "refused"),
        ({"pull_policy": "daily"}, "pull_policy", "refused"),
        ({"pull_policy": "if_not_present"}, "pull_policy", "translated"),
        ({"security_opt": ["seccomp=./profile.json"]}, "security_opt", "refused"),
        ({"isolation": "hyperv"}, "isolation", "refused"),
        ({"ports": [{"target": 80, "mode": "host"}]}, "ports.0.published", "refused"),
        ({"ports": [{"target": 80, "published": "1", "protocol": "sctp"}]}, "ports.0.protocol", "refused"),
        ({"ports": [{"target": 80, "published": "1", "host_ip": "127.0.0.1"}]}, "ports.0.host_ip", "refused"),
        ({"ports": [{"target": 80, "published": "1", "name": "web"}]}, "ports.0.name", "translated"),
        ({"volumes": [{"type": "npipe", "source": "p", "target": "/p"}]}, "volumes.0.type", "refused"),
        ({"networks": {"n": {"link_local_ips": ["169.254.1.9"]}}}, "networks.n.link_local_ips", "refused"),
        ({"develop": {"watch": [{"path": "p", "action": "sync"}]}}, "develop", "translated"),
    ],
    ids=lambda value: str(value)[:40],
)
def test_verdicts_that_hang_on_the_value(fields: dict[str, Any], key: str, word: str) -> None:
    found = only(fields)
    assert (".".join(map(str, found.path)), found.word) == (f"services.a.{key}", word)
    assert found.text


@pytest.mark.parametrize(
    "fields",
    [
        {"network_mode": "host"},
        {"pid": "host"},
        {"ipc": "shareable"},
        {"pull_policy": "always"},
        {"security_opt": ["no-new-privileges:true", "seccomp=unconfined", "seccomp={}", "label=disable"]},
        {"isolation": "default"},
        {"ports": [{"target": 80}]},
        {"ports": [{"target": 80, "published": "80", "host_ip": "0.0.0.0"}]},
        {"ports": [{"target": 80, "published": "80", "host_ip": "127.0.0.1", "mode": "host"}]},
    ],
    ids=str,
)
def test_values_that_are_honoured(fields: dict[str, Any]) -> None:
    assert set(verdicts(fields).values()) == {"honoured"}


@pytest.mark.parametrize(
    ("network", "key", "word"),
    [
        ({"driver": "bridge"}, "driver", "translated"),
        ({"driver": "macvlan"}, "driver", "refused"),
        ({"enable_ipv4": False}, "enable_ipv4", "refused"),
        ({"driver_opts": {"encrypted": "perhaps"}}, "driver_opts.encrypted", "refused"),
        ({"driver_opts": {"com.docker.x": "b"}}, "driver_opts.com.docker.x", "refused"),
        ({"external": True, "name": "bridge"}, "external", "translated"),
    ],
    ids=str,
)  # fmt: skip
def test_verdicts_on_networks(network: dict[str, Any], key: str, word: str) -> None:
    found = only({}, networks={"n": network})
    assert (".".join(map(str, found.path)), found.word) == (f"networks.n.{key}", word)


def test_what_a_short_form_stands_for_is_judged_too() -> None:
    model = {"services": {"a": {"image": "x", "ports": [{"target": 80, "published": "80", "host_ip": "10.0.0.1"}]}}}
    written = [("services",), ("services", "a"), ("services", "a", "image"), ("services", "a", "ports")]
    found = judge(Plain(model, written=[*written, ("services", "a", "ports", 0)]))
    assert [".".join(map(str, one.path)) for one in found if one.refused] == ["services.a.ports.0.host_ip"]


def test_services_that_no_profile_asks_for_are_not_judged() -> None:
    model = {"services": {"a": {"image": "x"}}}
    written = [*paths(model), ("services", "off", "volumes_from"), ("volumes", "unused", "driver")]
    assert not [one for one in judge(Plain(model, written=written)) if one.word != "honoured"]


def test_all_refused_keys_are_told_at_once() -> None:
    error = refused({"post_start": [], "volumes_from": ["b"], "cpu_count": 2})
    assert error.reason.startswith("3 keys are not supported:\n  compose.yml:7: services.a.post_start: refused: ")
    assert error.hint.endswith("x-stackyard: {accept: [post_start, volumes_from, cpu_count]}.")


def test_one_refused_key_says_where_why_and_what_to_do() -> None:
    error = refused({"pid": "service:b"})
    assert (error.file, error.line, error.field) == ("compose.yml", 7, "services.a.pid")
    assert error.reason == "not supported: the process namespace of another container may be on another host"
    assert error.hint == "To run without it, list pid under x-stackyard: {accept: [pid]}."


def accepting(*names: str) -> dict[str, Any]:
    return {"x-stackyard": {"accept": list(names)}}


def test_an_accepted_key_is_as_if_it_were_not_there() -> None:
    fields = {
        "volumes_from": ["b"],
        "networks": {"n": {"link_local_ips": ["169.254.1.9"], "aliases": ["b"]}},
        "ports": [{"target": 80, "mode": "host"}, {"target": 81, "published": "81", "host_ip": "127.0.0.1"}],
        "network_mode": "service:b",
    }
    accepted = accepting("volumes_from", "networks.link_local_ips", "ports.published", "ports.host_ip", "network_mode")
    found = service(fields, networks={"n": {}}, **accepted)
    assert [(a.network, a.aliases) for a in found.networks] == [("n", ("a", "b"))]
    assert [(port.published, port.host_ip) for port in found.ports] == [(81, "")]
    words = verdicts(fields, networks={"n": {}}, **accepted)
    assert words["services.a.volumes_from"] == "accepted"
    assert words["services.a.networks.n.aliases"] == "honoured"


def test_an_option_of_another_driver_is_accepted_with_all_its_kind() -> None:
    network = {"driver_opts": {"com.docker.network.bridge.name": "b", "x": "y"}}
    assert service({"networks": {"n": {}}}, networks={"n": network}, **accepting("networks.driver_opts"))


@pytest.mark.parametrize(
    ("ours", "told"),
    [
        ({"accept": ["volume_from"]}, "'volume_from' is no key of a Compose file"),
        ({"allow": ["x"]}, "the key is unknown"),
        ({"accept": "volumes_from"}, "a list is wanted here"),
        (["accept"], "a mapping is wanted here"),
    ],
    ids=str,
)
def test_what_is_accepted_must_exist(ours: Any, told: str) -> None:
    with pytest.raises(ComposeError, match=told):
        allowed(Plain({"services": {"a": {"image": "x"}}, "x-stackyard": ours}))


def test_nothing_is_accepted_that_is_not_listed() -> None:
    with pytest.raises(ComposeError, match="not supported"):
        convert(Plain({"services": {"a": {"image": "x", "pid": "service:b", **accepting("ipc")}}}))
