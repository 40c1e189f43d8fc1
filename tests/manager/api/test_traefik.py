"""What Traefik is told of services' labels: whatever they say, it takes what it is given."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from cluster.model.container import ContainerSpec
from cluster.model.service import ServiceSpec
from cluster.traefik.options import PROTOCOLS, Anything, Kind, Many, Named, Options
from manager.api import traefik
from tests.cluster.test_traefik import SAMPLES, taken
from tests.manager.decide.builders import Lab, a_service, a_stack


def service(name: str = "web", enable: str = "true", **labels: str) -> ServiceSpec:
    told = {f"traefik.{key}": value for key, value in labels.items()}
    return ServiceSpec(name, ContainerSpec("app:1"), labels=told | {"traefik.enable": enable})


def told(*services: tuple[str, ServiceSpec]) -> Any:
    """What Traefik is told, where each service has one task."""
    return traefik.configuration((stack, spec, f"10.0.0.{n}") for n, (stack, spec) in enumerate(services, 1))


def of_http(**labels: str) -> Any:
    return told(("shop", service(**labels)))["http"]


def test_routers_and_servers() -> None:
    shop = service(
        **{
            "http.routers.shop.rule": "Host(`shop.test`)",
            "http.routers.shop.entrypoints": "web, websecure",
            "http.routers.shop.tls": "true",
            "http.routers.shop.tls.certresolver": "le",
            "http.services.shop.loadbalancer.server.port": "8000",
        }
    )
    assert told(("shop", shop), ("shop", shop)) == {
        "http": {
            "routers": {
                "shop": {
                    "rule": "Host(`shop.test`)", "entrypoints": ["web", "websecure"],
                    "tls": {"certresolver": "le"}, "service": "shop",
                }
            },
            "services": {
                "shop": {"loadBalancer": {"servers": [{"url": f"http://10.0.0.{n}:8000"} for n in (1, 2)]}}
            },
        }
    }  # fmt: skip
    assert told(("shop", service(enable="false", **{"http.routers.x.rule": "y"}))) == {}


@pytest.mark.parametrize(
    ("label", "value", "found"),
    [
        ("stripprefix.prefixes", "/a, /b", ["/a", "/b"]),
        ("stripprefixregex.regex", "^/a{1,2}", ["^/a{1", "2}"]),  # as with Traefik's own labels
        ("redirectregex.regex", "^/a,b", "^/a,b"),
        ("errors.status", "500-599", ["500-599"]),
        ("headers.accessControlAllowMethods", "GET,PUT", ["GET", "PUT"]),
        ("headers.customrequestheaders.users", "a,b", "a,b"),
        ("headers.customrequestheaders.code", "007", "007"),
        ("headers.customrequestheaders.code", "\u00b2", "\u00b2"),
        ("plugin.mine.users", "a,b", "a,b"),
        ("plugin.mine.on", "true", "true"),
        ("retry.attempts", "4", 4),
        ("retry.initialInterval", "100ms", "100ms"),
        ("compress", "true", {}),
        ("headers.framedeny", "1", True),
    ],
)
def test_options_are_of_the_type_that_traefik_takes(label: str, value: str, found: object) -> None:
    given: Any = of_http(**{f"http.middlewares.m.{label}": value})["middlewares"]["m"]
    for word in label.lower().split("."):
        given = given[word]
    assert given == found


def test_what_labels_count_are_lists() -> None:
    labels = {"domains[1].main": "b.test", "domains[0].main": "a.test", "domains[0].sans": "x.a.test,y.a.test"}
    domains = [{"main": "a.test", "sans": ["x.a.test", "y.a.test"]}, {"main": "b.test"}]
    given = of_http(**{f"http.routers.r.tls.{key}": value for key, value in labels.items()})
    assert given["routers"]["r"] == {"tls": {"domains": domains}, "service": "shop_web"}


@pytest.mark.parametrize("protocol", ["tcp", "udp"])
def test_what_speaks_no_http(protocol: str) -> None:
    labels = {f"{protocol}.routers.r.entrypoints": "dns", f"{protocol}.services.s.loadbalancer.server.port": "53"}
    assert told(("shop", service(**labels))) == {
        protocol: {
            "routers": {"r": {"entrypoints": ["dns"], "service": "s"}},
            "services": {"s": {"loadBalancer": {"servers": [{"address": "10.0.0.1:53"}]}}},
        }
    }


def test_what_one_label_spoils_is_left_out_and_nothing_else() -> None:
    found = of_http(
        **{
            "http.routers.good.rule": "Path(`/`)",
            "http.routers.good.middlewares": "limit,auth",
            "http.routers.bad.rule": "Path(`/x`)",
            "http.routers.bad.priority": "high",
            "http.middlewares.limit.ratelimit.avrage": "3",
            "http.middlewares.auth.basicauth.users": "a:b",
            "http.services.shop.loadbalancer.server.port": "http",
        }
    )
    assert found == {
        "routers": {"good": {"rule": "Path(`/`)", "middlewares": ["limit", "auth"], "service": "shop"}},
        "middlewares": {"auth": {"basicauth": {"users": ["a:b"]}}},
    }, "Traefik serves no router whose middleware or service is not there"


def test_two_stacks_have_names_of_their_own() -> None:
    def of(stack: str) -> tuple[str, ServiceSpec]:
        labels = {
            "http.routers.web.rule": f"Host(`{stack}.test`)",
            "http.routers.web.middlewares": "auth@http, far, chained",
            "http.middlewares.auth.basicauth.users": f"{stack}:x",
            "http.middlewares.chained.chain.middlewares": "auth",
            f"http.middlewares.{stack}.addprefix.prefix": "/x",
            "http.services.web.loadbalancer.server.port": "80",
        }
        return stack, service(**labels)

    found = told(of("a"), of("b"))["http"]
    assert found["routers"]["a.web"] == {
        "rule": "Host(`a.test`)", "service": "a.web", "middlewares": ["a.auth", "far", "a.chained"],
    }  # fmt: skip
    assert found["middlewares"]["b.chained"] == {"chain": {"middlewares": ["b.auth"]}}
    assert set(found["middlewares"]) == {"a.auth", "b.auth", "a.chained", "b.chained", "a", "b"}
    assert found["services"]["b.web"]["loadBalancer"]["servers"] == [{"url": "http://10.0.0.2:80"}]
    assert set(told(of("a"))["http"]["routers"]) == {"web"}


def test_services_of_one_stack_that_say_the_same_are_one_and_otherwise_the_first_counts() -> None:
    alike = {"http.routers.r.rule": "x", "http.services.s.loadbalancer.server.port": "80"}
    other = alike | {"http.routers.r.rule": "y"}
    found = told(("shop", service("a", **alike)), ("shop", service("b", **alike)), ("shop", service("c", **other)))
    assert found["http"]["routers"] == {"r": {"rule": "x", "service": "s"}}
    assert len(found["http"]["services"]["s"]["loadBalancer"]["servers"]) == 3


def test_explain_tells_what_comes_to_nothing() -> None:
    labels = {"http.routers.r.rul": "x", "http.routers.q.rule": "x"}
    lab = Lab("n1")
    a = dataclasses.replace(a_service("a"), labels=service(**{"http.routers.q.rule": "first"}).labels)
    b = dataclasses.replace(a_service("b"), labels=service(**labels).labels)
    lab.deploy(a_stack("shop", a, b))
    assert list(traefik.troubles(lab.state, "shop", a)) == []
    wrong, twice = traefik.troubles(lab.state, "shop", b)
    assert (wrong.about, wrong.change) == ("label traefik.http.routers.r.rul", "Did you mean rule?")
    assert wrong.why == "Traefik has no option 'rul' there; Traefik is told nothing of its router r"
    assert twice.about == "label traefik.http.routers.q" and twice.why.startswith("a tells otherwise")
    off = dataclasses.replace(b, labels=b.labels | {"traefik.enable": "ture"})
    assert next(traefik.troubles(lab.state, "shop", off)).about == "label traefik.enable"


# Whatever the labels


def decode(kind: Kind, value: Any) -> None:
    """Take a value as Traefik's reader of files does; AssertionError is what refuses the whole configuration."""
    match kind:
        case Options(known, empty):
            assert empty or (isinstance(value, dict) and value), "an element by itself"
            for key, inner in value.items() if isinstance(value, dict) else ():
                found = [one for name, one in known.items() if name.lower() == key.lower()]
                assert found, f"field not found: {key}"
                decode(found[0], inner)
        case Many(each):
            assert isinstance(value, list)
            for one in value:
                decode(each, one)
        case Named(each):
            assert isinstance(value, dict) and value
            for one in value.values():
                decode(each, one)
        case Anything():
            assert isinstance(value, dict) and value and all(value)
        case "list":
            assert isinstance(value, list) and value and all(isinstance(one, str) for one in value)
        case _:
            assert not isinstance(value, dict | list) and "\u2551" not in str(value)
            assert taken(kind, str(value).lower() if isinstance(value, bool) else str(value)), (kind, value)


def with_servers(service: Options) -> Options:
    """What the configuration has in place of the labels' `server`."""
    balancer = service.known["loadBalancer"]
    assert isinstance(balancer, Options)
    server = balancer.known["server"]
    assert isinstance(server, Options)
    each: dict[str, Kind] = {"url": "text", "address": "text"}
    servers: dict[str, Kind] = {"servers": Many(Options(each | dict(server.known)))}
    return Options({"loadBalancer": Options(dict(balancer.known) | servers)})


def accepted(configuration: Mapping[str, Any]) -> None:
    """See that Traefik would take it: it reads JSON as the YAML that it is."""
    text = msgspec.json.encode(configuration)
    read = yaml.safe_load(text.decode())
    assert read == configuration
    for protocol, parts in read.items():
        assert parts
        for part, elements in parts.items():
            kind = PROTOCOLS[protocol][part]
            assert elements
            for element in elements.values():
                decode(with_servers(kind) if part == "services" else kind, element)


def junk() -> st.SearchStrategy[dict[str, str]]:
    words = sorted({word for label in SAMPLES for word in label.split(".")[1:]})
    near = st.sampled_from(words) | st.sampled_from(["domains[0]", "domains[x]", "x[1]", "[0]", "", "r", "\u2551", "@"])
    whole = st.sampled_from(sorted(SAMPLES))
    made = st.lists(near | st.text(max_size=3), max_size=7).map(lambda some: ".".join(("traefik", *some)))
    longer = st.tuples(whole, near).map(".".join)
    shorter = whole.map(lambda label: label.rpartition(".")[0])
    values = st.sampled_from(["true", "false", "1", "10s", "a, b", "", "99999999999999999999", "\u2551"]) | st.text()
    return st.dictionaries(whole | made | longer | shorter, values, max_size=8)


@given(junk(), junk())
def test_whatever_the_labels_traefik_takes_what_it_is_given(one: dict[str, str], two: dict[str, str]) -> None:
    good = service("good", **{"http.routers.safe.rule": "Path(`/`)"})
    made = [dataclasses.replace(service(), labels=labels | {"traefik.enable": "true"}) for labels in (one, two)]
    found = told(("mine", good), ("a", made[0]), ("b", made[1]), ("b", dataclasses.replace(made[0], name="c")))
    accepted(found)
    routers = found["http"]["routers"]
    assert {"rule": "Path(`/`)", "service": "mine_good"} in routers.values(), "nobody's labels take another's routes"


def test_each_option_gets_through() -> None:
    for label, value in SAMPLES.items():
        found = told(("shop", service(**{label.removeprefix("traefik."): value})))
        accepted(found)
        _, protocol, part, name, *_ = label.split(".")
        assert name in found[protocol][part], label


def test_the_model_refuses_what_traefik_refuses() -> None:
    wrong: Any
    for wrong in (
        {"http": {"routers": {"r": {"entrypoints": "web"}}}},
        {"http": {"routers": {"r": {"rul": "x"}}}},
        {"http": {"routers": {"r": {"priority": "high"}}}},
        {"http": {"middlewares": {"m": {"headers": {}}}}},
        {"http": {"middlewares": {"m": {"ratelimit": {"period": "soon"}}}}},
        {"http": {}},
    ):
        with pytest.raises(AssertionError):
            accepted(wrong)
