"""Labels of Traefik's: each option that it has is read, and what is wrong with a label is told with what is meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from cluster.traefik import enabled, read
from cluster.traefik.options import PROTOCOLS, Anything, Kind, Many, Named, Options

VALUES = {"text": "x", "flag": "true", "number": "42", "port": "8080", "duration": "1m30s", "list": "a, b"}


def options(kind: Kind, path: str) -> Iterator[tuple[str, str]]:
    """Give a label for each option, with a value that it takes."""
    match kind:
        case Options(known, empty):
            if empty:
                yield path, "true"
            for name, inner in known.items():
                yield from options(inner, f"{path}.{name}")
        case Many(each):
            yield from options(each, f"{path}[0]")
        case Named(each):
            yield f"{path}.some-name", VALUES[each]
        case Anything():
            yield f"{path}.mine.list[0].name", "x"
        case _:
            yield path, VALUES[kind]


SAMPLES = {
    label: value
    for protocol, parts in PROTOCOLS.items()
    for part, kind in parts.items()
    for label, value in options(kind, f"traefik.{protocol}.{part}.mine")
}
"""Every option that there is."""


def taken(kind: str, value: str) -> bool:
    """Tell whether Go's strconv and time.ParseDuration would take a value."""
    match kind:
        case "flag":
            return value in {"1", "t", "T", "TRUE", "true", "True", "0", "f", "F", "FALSE", "false", "False"}
        case "number" | "port":
            return re.fullmatch("[+-]?[0-9]+", value, re.ASCII) is not None and -(2**63) <= int(value) < 2**63
        case "duration":
            span = re.fullmatch(r"[+-]?([0-9]+\.?[0-9]*(ns|us|ms|s|m|h)|\.[0-9]+(ns|us|ms|s|m|h))+", value, re.ASCII)
            return taken("number", value) or span is not None
        case _:
            return True


def test_each_option_is_read_however_it_is_spelt() -> None:
    for label, value in SAMPLES.items():
        for spelt in (label, label.lower()):
            parts, faults = read({spelt: value})
            assert faults == () and len(parts) == 1, spelt


@pytest.mark.parametrize(
    ("label", "value", "why"),
    [
        ("htp.routers.r.rule", "x", "'htp' is none of http, tcp and udp. Did you mean http?"),
        ("http.router.r.rule", "x", "'router' is none of routers, services, middlewares. Did you mean routers?"),
        ("http.routers.rule", "x", "it has to say which option of which of the routers it is: "),
        ("http.routers.r.ruel", "x", "Traefik has no option 'ruel' there. Did you mean rule?"),
        ("http.routers.r.rule.x", "x", "rule takes a value, and no options below it"),
        ("http.routers.r.tls", "yes", "'yes' is neither true nor false"),
        ("http.routers.r.tls.domains.main", "x", "domains is counted: domains[0]"),
        ("http.routers.r.priority", "high", "'high' is no number"),
        ("http.routers.r.priority", "9223372036854775808", "is no number"),
        ("http.routers.r.entrypoints", " ", "the list is empty"),
        ("http.middlewares.m.headers", "true", "headers has options below it, and takes no value itself"),
        ("http.middlewares.m.ratelimit.period", "10", ""),
        ("http.middlewares.m.ratelimit.period", "10 s", "'10 s' is no duration. Write it like 10s or 500ms."),
        ("http.middlewares.m.ratelimit.period", "9999999h", "is no duration"),
        ("http.middlewares.m.addprefix.prefix", "a\x07", "it holds characters that are no text"),
        ("http.services.s.loadbalancer.server.port", "70000", "'70000' is no port"),
        ("http.services.s.weighted.services", "x", "Traefik has no option 'weighted' there. There are loadBalancer."),
        ("udp.middlewares.m.ipallowlist.sourcerange", "x", "'middlewares' is none of routers, services"),
        ("http.routers..rule", "x", "a part of its name is empty"),
        ("docker.network", "x", ""),
        ("enable", "maybe", "'maybe' is neither true nor false"),
    ],
)
def test_what_is_wrong_is_told(label: str, value: str, why: str) -> None:
    parts, faults = read({f"traefik.{label}": value, "traefik.http.routers.good.rule": "x", "other": "x"})
    assert len(faults) == bool(why)
    assert all(why in f"{fault.why}. {fault.hint}" for fault in faults)
    assert ("http", "routers", "good") in parts


def test_what_a_newer_traefik_may_have_is_passed_on_if_that_is_asked_for() -> None:
    labels = {f"traefik.http.routers.r.{key}": "5" for key in ("newer", "tls.newer.still", "list[0].a", "priority")}
    router = {"newer": "5", "tls": {"newer": {"still": "5"}}, "list": [{"a": "5"}], "priority": 5}
    assert read(labels, unknown=True) == ({("http", "routers", "r"): router}, ())
    assert len(read(labels)[1]) == 3
    assert read({"traefik.http.routers.r.priority": "high"}, unknown=True)[1]


def test_what_is_switched_off_is_as_if_it_was_not_said() -> None:
    off = {"traefik.http.routers.r.tls": "false", "traefik.http.routers.r.tls.certresolver": "le"}
    assert read(off | {"traefik.http.routers.r.rule": "x"}) == ({("http", "routers", "r"): {"rule": "x"}}, ())


def test_who_asks_to_be_told_of() -> None:
    assert enabled({"traefik.enable": "true"}) and enabled({"Traefik.Enable": "1"})
    assert not enabled({"traefik.enable": "false"}) and not enabled({}) and not enabled({"traefik.enable": "yes"})
