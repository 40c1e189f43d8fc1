"""Several files: what a later one says is laid over the earlier ones (section 13 of the specification)."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.model.service import PortSpec
from tests.cluster.compose.loading import refused, stack


def merged(base: str, over: str) -> Any:
    top = "\nnetworks: {n: , m: }\nvolumes: {data: , more: }"
    return stack(f"services: {{a: {{image: x, {base}}}}}{top}", f"services: {{a: {{{over}}}}}").services["a"]


@pytest.mark.parametrize(
    ("base", "over", "of", "value"),
    [
        ("environment: {A: 1, B: 1}", "environment: [B=2]", "environment", {"A": "1", "B": "2"}),
        ("environment: {A: 1}", "environment: {A: }", "environment", {}),
        ("environment: {A: 1}", "environment: ", "environment", {"A": "1"}),
        ("labels: [a=1]", "labels: {b: 2}", "labels", {"a": "1", "b": "2"}),
        ("command: a b", "command: [c]", "command", ("c",)),
        ("command: a b", "command: ", "command", None),
        ("entrypoint: e, command: a", "entrypoint: f", "command", ("a",)),
        ("dns: 1.1.1.1", "dns: [2.2.2.2, 1.1.1.1]", "dns", ("1.1.1.1", "2.2.2.2")),
        ("cap_add: [KILL]", "cap_add: [CHOWN, KILL]", "cap_add", ("CAP_CHOWN", "CAP_KILL")),
        ("image: y", "init: true", "init", True),
        (
            "extra_hosts: ['h:1.1.1.1']",
            "extra_hosts: {h: 2.2.2.2}",
            "extra_hosts",
            (("h", "1.1.1.1"), ("h", "2.2.2.2")),
        ),
        ("sysctls: {a.b: 1}", "sysctls: [a.b=2]", "sysctls", {"a.b": "2"}),
    ],
)
def test_container_fields(base: str, over: str, of: str, value: object) -> None:
    if base == "image: y":
        base = "tty: true"
    assert getattr(merged(base, over).container, of) == value


def test_a_health_check_keeps_what_the_later_file_does_not_say() -> None:
    check = merged("healthcheck: {test: old, interval: 5s}", "healthcheck: {test: [CMD, new]}").container.healthcheck
    assert (check.test, check.interval) == (("CMD", "new"), 5)


def test_ports_are_replaced_by_address_target_published_and_protocol() -> None:
    spec = merged("ports: ['53:53/tcp', '80:80']", "ports: ['53:53/udp', {target: 80, published: 80, mode: host}]")
    assert spec.ports == (PortSpec(80, 80, mode="host"), PortSpec(53, 53), PortSpec(53, 53, "udp"))


def test_volumes_are_replaced_by_target() -> None:
    spec = merged("volumes: ['data:/v', 'data:/w']", "volumes: ['more:/v:ro']")
    assert [(m.source, m.target, m.read_only) for m in spec.container.mounts] == [
        ("app_more", "/v", True),
        ("app_data", "/w", False),
    ]


def test_networks_are_joined_and_aliases_too() -> None:
    spec = merged("networks: {n: {aliases: [x]}}", "networks: {m: , n: {aliases: [y]}}")
    assert [(n.network, n.aliases) for n in spec.networks] == [("m", ("a",)), ("n", ("a", "x", "y"))]


def test_options_of_another_logging_driver_are_dropped() -> None:
    spec = merged("logging: {driver: json-file, options: {a: 1}}", "logging: {driver: syslog, options: {b: 2}}")
    assert spec.container.logging.options == {"b": "2"}
    spec = merged("logging: {driver: syslog, options: {a: 1}}", "logging: {options: {b: 2}}")
    assert spec.container.logging.options == {"a": "1", "b": "2"}


def test_deploy_is_merged_and_constraints_are_joined() -> None:
    spec = merged(
        "deploy: {replicas: 2, placement: {constraints: [node.role == worker]}}",
        "deploy: {replicas: 3, placement: {constraints: [node.labels.disk == ssd]}}",
    )
    assert (spec.replicas, spec.constraints) == (3, ("node.role == worker", "node.labels.disk == ssd"))


def test_a_file_over_itself_changes_nothing() -> None:
    text = """
    services:
      a:
        image: x
        command: run it
        environment: {A: 1}
        ports: ["80:80"]
        volumes: ["data:/v", "./c:/c"]
        networks: [n]
        cap_add: [KILL]
        extra_hosts: ["h:1.2.3.4"]
    networks: {n: }
    volumes: {data: }
    """
    assert stack(text, text) == stack(text)


def test_documents_of_one_file_are_merged_like_files() -> None:
    assert stack("services: {a: {image: x}}\n---\nservices: {a: {image: y}}").services["a"].container.image == "y"


def test_paths_of_every_file_start_from_the_first_ones_folder() -> None:
    spec = merged("volumes: ['./a:/a']", "volumes: ['./b:/b']")
    assert [m.source for m in spec.container.mounts] == ["/srv/app/a", "/srv/app/b"]


def test_an_error_tells_the_file_that_it_is_in() -> None:
    error = refused("services: {a: {image: x}}", "\nservices:\n  a: {image: UPPER CASE}")
    assert (error.file, error.line, error.field) == ("/srv/app/second.yml", 3, "services.a.image")
