"""Fields of a service, each with what it becomes and what is refused."""

from __future__ import annotations

import pytest

from cluster.model.container import Healthcheck, Logging, Ulimit
from cluster.model.service import Resources, RestartCondition, RestartPolicy, ServiceSpec
from tests.cluster.compose.loading import container, refused, refused_service, service, stack


@pytest.mark.parametrize(
    ("fields", "of", "value"),
    [
        ("command: 'sh -c \"echo $$X ''a b''\"'", "command", ("sh", "-c", "echo $X 'a b'")),
        ("command: \"--b='c d' e\\\\ f\"", "command", ("--b=c d", "e f")),
        ("command: []", "command", ()),
        ("command: ''", "command", ()),
        ("command: ", "command", None),
        ("entrypoint: [a, '']", "entrypoint", ("a", "")),
        ("environment: {A: yes, B: 1.0, C: true, D: 010, E: }", "environment",
         {"A": "yes", "B": "1", "C": "true", "D": "8"}),
        ("environment: [A, B=, C=x=y, A=1]", "environment", {"A": "1", "B": "", "C": "x=y"}),
        ("labels: {a.b: 1, c: }", "labels", {"a.b": "1", "c": ""}),
        ("user: '1000:1000'", "user", "1000:1000"),
        ("working_dir: /srv", "working_dir", "/srv"),
        ("hostname: h.example", "hostname", "h.example"),
        ("stop_signal: sigint", "stop_signal", "SIGINT"),
        ("stop_grace_period: 1m", "stop_grace_period", 60.0),
        ("tty: yes", "tty", True),
        ("read_only: 'true'", "read_only", True),
        ("cap_drop: [ALL, net_admin]", "cap_drop", ("ALL",)),
        ("cap_add: [net_admin, CAP_KILL]", "cap_add", ("CAP_KILL", "CAP_NET_ADMIN")),
        ("sysctls: {net.core.somaxconn: 1024}", "sysctls", {"net.core.somaxconn": "1024"}),
        ("ulimits: {nofile: 10, nproc: {soft: 1, hard: -1}}", "ulimits",
         {"nofile": Ulimit(10, 10), "nproc": Ulimit(1, -1)}),
        ("extra_hosts: ['h:1.2.3.4', 'i=::1', 'g:host-gateway']", "extra_hosts",
         (("h", "1.2.3.4"), ("i", "::1"), ("g", "host-gateway"))),
        ("dns: 9.9.9.9", "dns", ("9.9.9.9",)),
        ("dns_search: [a, b]", "dns_search", ("a", "b")),
        ("dns_opt: ['ndots:1']", "dns_options", ("ndots:1",)),
        ("logging: {driver: json-file, options: {max-file: 3}}", "logging", Logging("json-file", {"max-file": "3"})),
        ("healthcheck: {test: curl x, interval: 5s, retries: 2}", "healthcheck",
         Healthcheck(("CMD-SHELL", "curl x"), interval=5, retries=2)),
        ("healthcheck: {test: [CMD, a, b]}", "healthcheck", Healthcheck(("CMD", "a", "b"))),
        ("healthcheck: {disable: true}", "healthcheck", Healthcheck(("NONE",))),
        ("healthcheck: {interval: 5s}", "healthcheck", Healthcheck(interval=5)),
    ],
)  # fmt: skip
def test_container_fields(fields: str, of: str, value: object) -> None:
    assert getattr(container(fields), of) == value


@pytest.mark.parametrize(
    ("fields", "of", "value"),
    [
        ("deploy: {replicas: 0}", "replicas", 0),
        ("deploy: {mode: replicated, endpoint_mode: vip}", "replicas", 1),
        ("deploy: {labels: [a=1]}", "labels", {"a": "1"}),
        ("deploy: {resources: {limits: {cpus: '0.5', memory: 50M, pids: 10}}}", "resources",
         Resources(5 * 10**8, 52428800, 10)),
        ("deploy: {resources: {limits: {cpus: 0, pids: -1}}}", "resources", Resources()),
        ("deploy: {placement: {constraints: ['node.labels.disk==ssd', node.hostname != n1]}}", "constraints",
         ("node.labels.disk==ssd", "node.hostname != n1")),
        ("deploy: {restart_policy: {condition: on-failure, delay: 5s, max_attempts: 3, window: 1m}}", "restart",
         RestartPolicy(RestartCondition.ON_FAILURE, 5.0, 3, 60.0)),
        ("deploy: {restart_policy: {condition: none}}, restart: always", "restart",
         RestartPolicy(RestartCondition.NONE)),
        ("restart: unless-stopped", "restart", RestartPolicy()),
        ("restart: no", "restart", RestartPolicy(RestartCondition.NONE)),
        ("restart: on-failure:3", "restart", RestartPolicy(RestartCondition.ON_FAILURE, max_attempts=3)),
    ],
)  # fmt: skip
def test_service_fields(fields: str, of: str, value: object) -> None:
    assert getattr(service(fields), of) == value


@pytest.mark.parametrize(
    ("fields", "field", "told"),
    [
        ("command: 'a \"b'", "command", "not closed"),
        ("command: {a: b}", "command", "text is wanted here, not a mapping"),
        ("entrypoint: [1]", "entrypoint.0", "text is wanted here, not the number 1"),
        ("environment: {A: 2024-01-02}", "environment.A", "not the date 2024-01-02"),
        ("environment: {A: [x]}", "environment.A", "not a list"),
        ("environment: ['=x']", "environment.0", "an entry without a name"),
        ("environment: {'A=B': x}", "environment.A=B", "cannot be the name of a variable"),
        ("environment: x", "environment", "a list is wanted here"),
        ("labels: {com.stackyard.task: x}", "labels.com.stackyard.task", "is reserved"),
        ("user: 1000", "user", "text is wanted here, not the number 1000"),
        ("user: 'a b'", "user", "is not a user"),
        ("working_dir: srv", "working_dir", "is not an absolute path"),
        ("hostname: 'a b'", "hostname", "cannot be a name on a network"),
        ("stop_signal: 'now!'", "stop_signal", "is not a signal"),
        ("stop_grace_period: 10", "stop_grace_period", "a duration needs a unit"),
        ("init: 7", "init", "true or false is wanted here, not the number 7"),
        ("cap_add: ['x y']", "cap_add.0", "is not a capability"),
        ("ulimits: {nofile: {soft: 1}}", "ulimits.nofile", "the limit has no hard"),
        ("ulimits: {nofile: {soft: 2, hard: 1}}", "ulimits.nofile", "above the hard limit"),
        ("extra_hosts: [h]", "extra_hosts.0", "'h' is not a host"),
        ("extra_hosts: ['h:x']", "extra_hosts.0", "'x' is not an IP address"),
        ("dns: x", "dns", "'x' is not an IP address"),
        ("healthcheck: {test: [curl, x]}", "healthcheck.test", "begins with CMD"),
        ("healthcheck: {test: []}", "healthcheck.test", "begins with CMD"),
        ("healthcheck: {test: [CMD]}", "healthcheck.test", "takes a program"),
        ("healthcheck: {test: x, disable: true}", "healthcheck.disable", "cannot be disabled as well"),
        ("healthcheck: {retries: x}", "healthcheck.retries", "a whole number"),
        ("deploy: {replicas: -1}", "deploy.replicas", "must be at least 0"),
        ("deploy: {replicas: 1.5}", "deploy.replicas", "a whole number"),
        ("deploy: {mode: global}", "deploy.mode", "the mode 'global' is not supported"),
        ("deploy: {endpoint_mode: dnsrr}", "deploy.endpoint_mode", "'dnsrr' is not supported"),
        ("deploy: {resources: {limits: {cpus: many}}}", "deploy.resources.limits.cpus", "is not a number of cores"),
        ("deploy: {resources: {limits: {memory: 4m}}}", "deploy.resources.limits.memory", "no less than 6 MiB"),
        ("deploy: {placement: {constraints: [disk]}}", "deploy.placement.constraints.0", "is not a constraint"),
        ("deploy: {placement: {constraints: [x == a]}}", "deploy.placement.constraints.0", "nothing that a node has"),
        ("deploy: {restart_policy: {condition: always}}", "deploy.restart_policy.condition", "'always' is none of"),
        ("restart: sometimes", "restart", "is no restart policy"),
        ("restart: always:3", "restart", "is no restart policy"),
        ("networks: [n]", "networks.0", "there is no network 'n'"),
        ("networks: {default: {aliases: ['a b']}}", "networks.default.aliases.0", "cannot be a name on a network"),
    ],
)  # fmt: skip
def test_refused(fields: str, field: str, told: str) -> None:
    error = refused_service(fields)
    assert told in error.reason
    assert (error.file, error.line, error.field) == ("/srv/app/compose.yml", 2, f"services.a.{field}")


@pytest.mark.parametrize(
    "image",
    [
        "nginx",
        "nginx:1.27",
        "reg.example:5000/team/app:v1",
        "a/b/c",
        "x@sha256:" + "0" * 64,
        "localhost/x:1",
        "[::1]:5000/x",
    ],
)
def test_names_of_images(image: str) -> None:
    assert stack(f"services: {{a: {{image: '{image}'}}}}").services["a"].container.image == image


@pytest.mark.parametrize("image", ["", "Nginx", "a b", "x:", ":1", "x@sha256:1", "/x", "x//y", "x" * 600])
def test_no_names_of_images(image: str) -> None:
    assert "is not the name of an image" in refused(f"services: {{a: {{image: '{image}'}}}}").reason


def test_an_image_is_needed_and_build_alone_is_not_enough() -> None:
    assert refused("services:\n  a: {init: true}").reason == "the service has no image"
    error = refused("services:\n  a:\n    build: .")
    assert (error.line, error.reason) == (3, "build alone names no image that the nodes could pull")


def test_a_service_with_nothing_but_an_image_has_dockers_defaults() -> None:
    assert stack("services: {a: {image: x}}").services["a"] == ServiceSpec(
        "a", container=container("init: false"), networks=service("init: false").networks
    )
    assert service("init: false").networks[0].aliases == ("a",)
