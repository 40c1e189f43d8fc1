"""The Compose Specification, 05-services, build and deploy: what each key comes to, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from tests.cluster.compose.loading import fields, wrong


def tcp(target: int, published: str | None = None, **more: Any) -> dict[str, Any]:
    port = {"mode": "ingress", "target": target, "protocol": "tcp", **more}
    return port if published is None else {**port, "published": published}


LOADED = [
    # attribute environment, and scalars of YAML 1.2
    (
        "environment: {A: yes, B: on, I: off, J: true}",
        {"environment": {"A": "yes", "B": "on", "I": "off", "J": "true"}},
    ),
    (
        "environment: {B: 1.0, E: 1e3, F: 0x10, G: 010, C: 1_000, H: 0o17, I: 1.10, X: 12:30:45}",
        {"environment": dict(B="1", E="1000", F="16", G="8", C="1000", H="15", I="1.1", X="12:30:45")},
    ),
    ("environment: [A, B=, C=x=y, HOME]", {"environment": {"A": None, "B": "", "C": "x=y", "HOME": "/home/user"}}),
    ("environment: [A=1, A=2]", {"environment": {"A": "2"}}),
    # command, entrypoint
    ("command: sh -c \"echo $$X 'a b'\"", {"command": ["sh", "-c", "echo $X 'a b'"]}),
    ("command: --b='c d' e\\ f", {"command": ["--b=c d", "e f"]}),
    ("command: 'echo ${U}'", {"command": ["echo"]}),
    ("command: a; b", {"command": ["a"]}),
    ("entrypoint: [], command: ''", {"entrypoint": [], "command": []}),
    # ports
    ("ports: [22:22]", {"ports": [tcp(22, "22")]}),
    ("ports: ['8080-8082:90']", {"ports": [tcp(90, "8080-8082")]}),
    (
        "ports: ['3000-3001:4000-4001/udp']",
        {"ports": [tcp(4000, "3000", protocol="udp"), tcp(4001, "3001", protocol="udp")]},
    ),
    ("ports: ['127.0.0.1::81', '[::1]:6:7']", {"ports": [tcp(81, host_ip="127.0.0.1"), tcp(7, "6", host_ip="::1")]}),
    ("ports: ['80:80', '80:80/tcp', 90]", {"ports": [tcp(80, "80"), tcp(90)]}),
    ("ports: [{target: 80, published: 8080, mode: host}]", {"ports": [tcp(80, "8080", mode="host")]}),
    ("ports: ['${P}:80']", {"ports": [tcp(80)]}),
    # volumes
    (
        "volumes: ['vv:/v:ro,z']",
        {
            "volumes": [
                dict(type="volume", source="vv", target="/v", read_only=True, bind={"selinux": "z"}, volume={}),
            ]
        },
    ),
    (
        "volumes: [./r:/a/, ~/x:/x]",
        {
            "volumes": [
                dict(type="bind", source="/srv/app/r", target="/a", bind={"create_host_path": True}),
                dict(type="bind", source="/home/user/x", target="/x", bind={"create_host_path": True}),
            ]
        },
    ),
    ("volumes: ['vv:/v', 'ww:/v']", {"volumes": [dict(type="volume", source="ww", target="/v", volume={})]}),
    ("volumes: ['v:/v']", {"volumes": [dict(type="volume", target="v:/v", volume={})]}),
    (
        "volumes: [{type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0755}}]",
        {"volumes": [dict(type="tmpfs", target="/t", tmpfs={"size": "1048576", "mode": 493})]},
    ),
    # byte values and durations
    ("mem_limit: 1.5g, shm_size: 64m", {"mem_limit": "1610612736", "shm_size": "67108864"}),
    ("mem_limit: 1.5, shm_size: '1.5'", {"shm_size": "1"}),
    ("mem_limit: 512kib, shm_size: 100kb", {"mem_limit": "524288", "shm_size": "102400"}),
    ("mem_limit: 100 mb, memswap_limit: -1", {"mem_limit": "104857600", "memswap_limit": "-1"}),
    ("stop_grace_period: 90s", {"stop_grace_period": "1m30s"}),
    ("stop_grace_period: 1h5m30s20ms", {"stop_grace_period": "1h5m30.02s"}),
    ("stop_grace_period: 1.5d", {"stop_grace_period": "36h0m0s"}),
    ("stop_grace_period: 0s", {"stop_grace_period": "0s"}),
    ("stop_grace_period: 500us", {"stop_grace_period": "500µs"}),
    # healthcheck
    ("healthcheck: {test: curl x}", {"healthcheck": {"test": ["CMD-SHELL", "curl x"]}}),
    ("healthcheck: {test: [NONE], interval: 1m}", {"healthcheck": {"test": ["NONE"], "interval": "1m0s"}}),
    ("healthcheck: {disable: true}", {"healthcheck": {"disable": True}}),
    # depends_on, and what depends implicitly
    ("depends_on: [b]", {"depends_on": {"b": {"condition": "service_started", "required": True}}}),
    (
        "links: ['b:db']",
        {
            "links": ["b:db"],
            "depends_on": {"b": {"condition": "service_started", "restart": True, "required": True}},
        },
    ),
    (
        "network_mode: service:b",
        {
            "network_mode": "service:b",
            "depends_on": {"b": {"condition": "service_started", "restart": True, "required": True}},
        },
    ),
    # networks
    ("networks: [n]", {"networks": {"n": None}}),
    ("networks: {n: {aliases: [x], priority: 3}}", {"networks": {"n": {"aliases": ["x"], "priority": 3}}}),
    # secrets and configs
    ("secrets: [s]", {"secrets": [{"source": "s", "target": "/run/secrets/s"}]}),
    ("secrets: [{source: s, mode: 0400}]", {"secrets": [{"source": "s", "target": "/run/secrets/s", "mode": "0400"}]}),
    ("secrets: [{source: s, mode: 440}]", {"secrets": [{"source": "s", "target": "/run/secrets/s", "mode": "0670"}]}),
    ("configs: [{source: c, target: /t, uid: '1'}]", {"configs": [{"source": "c", "target": "/t", "uid": "1"}]}),
    # build
    ("build: ./w", {"build": {"context": "/srv/app/w", "dockerfile": "Dockerfile"}}),
    ("build: https://x/y.git", {"build": {"context": "https://x/y.git", "dockerfile": "Dockerfile"}}),
    (
        "build: {args: [HOME, NONE, B=], ulimits: {nofile: 3}, shm_size: 1k}",
        {
            "build": {
                "context": "/srv/app",
                "dockerfile": "Dockerfile",
                "args": {"B": "", "HOME": "/home/user"},
                "shm_size": "1024",
                "ulimits": {"nofile": 3},
            }
        },
    ),
    # deploy
    (
        "deploy: {replicas: '3', resources: {limits: {cpus: '0.50', memory: 50M, pids: 9}}}",
        {
            "deploy": {
                "replicas": 3,
                "resources": {"limits": {"cpus": 0.5, "memory": "52428800", "pids": 9}},
                "placement": {},
            }
        },
    ),
    (
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu]}]}}}",
        {
            "deploy": {
                "resources": {"reservations": {"devices": [{"capabilities": ["gpu"], "count": -1}]}},
                "placement": {},
            }
        },
    ),
    ("scale: 2, deploy: {}", {"scale": 2, "deploy": {"replicas": 2, "resources": {}, "placement": {}}}),
    # devices, gpus
    ("devices: [/dev/z]", {"devices": [{"source": "/dev/z", "target": "/dev/z", "permissions": "rwm"}]}),
    ("devices: ['/d:/e:r']", {"devices": [{"source": "/d", "target": "/e", "permissions": "r"}]}),
    ("gpus: all", {"gpus": [{"count": -1}]}),
    # the rest
    ("restart: no", {"restart": "no"}),
    ("init: true, tty: 'yes'", {"init": True, "tty": True}),
    ("extra_hosts: ['h:1.1.1.1', 'g=[::1]']", {"extra_hosts": ["g=::1", "h=1.1.1.1"]}),
    ("extra_hosts: {h: [1.1.1.1, 2.2.2.2]}", {"extra_hosts": ["h=1.1.1.1", "h=2.2.2.2"]}),
    ("ulimits: {nofile: {soft: 1, hard: 2}, nproc: 5}", {"ulimits": {"nofile": {"soft": 1, "hard": 2}, "nproc": 5}}),
    ("sysctls: [a=1], labels: {x: , y: 1}", {"sysctls": {"a": "1"}, "labels": {"x": "", "y": "1"}}),
    ("dns: 1.1.1.1, tmpfs: /t", {"dns": ["1.1.1.1"], "tmpfs": ["/t"]}),
    ("expose: [80, '80', 1-2/udp]", {"expose": ["80", "1-2/udp"]}),
    ("pull_policy: if_not_present", {"pull_policy": "missing"}),
    ("logging: {driver: x, options: {a: 1}}", {"logging": {"driver": "x", "options": {"a": "1"}}}),
    ("x-own: {a: 1}, labels: {}", {}),
]


@pytest.mark.parametrize(("text", "expected"), LOADED, ids=[text for text, _ in LOADED])
def test_loaded(text: str, expected: dict[str, Any]) -> None:
    assert fields(text) == expected


REFUSED = [
    ("environment: {D: 2024-01-02}", "environment.D", "a date"),
    ("environment: {A: [1]}", "environment.A", "not a list"),
    ("environment: ['A =1']", "environment", "ends with a space"),
    ("command: a 'b", "command", "not closed"),
    ("ports: ['3000-3005:4000-4001']", "ports.0", "not of one length"),
    ("ports: ['80:80/foo']", "ports.0", "no protocol"),
    ("ports: [x]", "ports.0", "no port"),
    ("ports: ['70000:80']", "ports.0", "the last is 65535"),
    ("ports: ['host:80:80']", "ports.0", "no IP address"),
    ("ports: [{target: 80, host_ip: localhost}]", "ports.0.host_ip", "no IP address"),
    ("ports: [{published: 80}]", "ports.0", "no target"),
    ("volumes: ['data:/d']", "volumes.0", "there is no volume data"),
    ("volumes: [':/media']", "volumes.0", "an empty part"),
    ("volumes: ['vv:/a:ro:z']", "volumes.0", "too many colons"),
    ("volumes: [{type: bind, target: /x}]", "volumes.0", "needs a source"),
    ("volumes: [{type: foo, target: /x}]", "volumes.0.type", "none of bind"),
    ("volumes: [/x, {type: bind, source: /y, target: /x/}]", "volumes.1", "mounted at /x already"),
    ("mem_limit: 10x", "mem_limit", "not a size"),
    ("mem_limit: true", "mem_limit", "a number or text is wanted"),
    ("memswap_limit: '-1'", "memswap_limit", "out of range"),
    ("stop_grace_period: 10", "stop_grace_period", "text is wanted"),
    ("stop_grace_period: '10'", "stop_grace_period", "not a duration"),
    ("stop_grace_period: 1x", "stop_grace_period", "no unit of time"),
    ("healthcheck: {test: [curl, x]}", "healthcheck.test", "CMD, CMD-SHELL or NONE"),
    ("healthcheck: {retries: many}", "healthcheck.retries", "not a whole number"),
    ("depends_on: [zz]", "depends_on.zz", "there is no service zz"),
    ("depends_on: {b: {condition: soon}}", "depends_on.b.condition", "none of service_started"),
    ("depends_on: {b: {}}", "depends_on.b", "condition is missing"),
    ("depends_on: [a]", "depends_on.a", "in a circle"),
    ("networks: [zz]", "networks.zz", "there is no network zz"),
    ("networks: [n], network_mode: host", "networks", "exclude each other"),
    ("network_mode: service:zz", "depends_on.zz", "there is no service zz"),
    ("secrets: [zz]", "secrets.0", "there is no secret zz"),
    ("configs: [zz]", "configs.0", "there is no config zz"),
    ("build: {dockerfile: D, dockerfile_inline: FROM x}", "build.dockerfile_inline", "exclude each other"),
    ("build: {contxt: .}", "build.contxt", "the key is unknown"),
    ("platform: l/a, build: {platforms: [l/b]}", "build.platforms", "not among them"),
    ("deploy: {replicas: -1}", "deploy.replicas", "less than none"),
    ("mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}", "mem_limit", "says 2147483648"),
    ("scale: 2, deploy: {replicas: 3}", "scale", "deploy.replicas says 3"),
    ("cpus: 1, deploy: {resources: {limits: {memory: 1g}}}", "cpus", "says nothing"),
    ("container_name: x1, scale: 2", "container_name", "only one of 2"),
    ("gpus: [{count: 1, device_ids: ['0']}]", "gpus.0", "exclude each other"),
    ("gpus: some", "gpus", "none of all"),
    ("deploy: {resources: {reservations: {devices: [{}]}}}", "deploy.resources.reservations.devices.0", "capabilities"),
    ("devices: ['a:b:c:d']", "devices.0", "too many colons"),
    ("extra_hosts: [h]", "extra_hosts.0", "has no address"),
    ("extra_hosts: ['h:1=10.0.0.1']", "extra_hosts", "no name of a host"),
    ("extra_hosts: {'h:1': 10.0.0.1}", "extra_hosts", "no name of a host"),
    ("ulimits: {nofile: {soft: 1}}", "ulimits.nofile", "hard is missing"),
    ("init: maybe", "init", "neither true nor false"),
    ("imagee: x", "imagee", "the key is unknown"),
    ("security_opt: [x, x]", "security_opt.1", "in the list already"),
    ("tmpfs: ['/t:a=1', '/t:b=1']", "tmpfs.1", "mounted at /t already"),
    ("develop: {watch: [{path: x, action: sync}]}", "develop.watch.0", "sync needs a target"),
    ("pull_policy: perhaps", "pull_policy", "not a possible value"),
    ("oom_score_adj: 2000", "oom_score_adj", "at most 1000"),
    ("user: 1000", "user", "text is wanted"),
]


@pytest.mark.parametrize(("text", "field", "told"), REFUSED, ids=[text for text, _, _ in REFUSED])
def test_refused(text: str, field: str, told: str) -> None:
    error = wrong(text)
    assert (error.field, error.file, error.line) == (f"services.a.{field}", "/srv/app/compose.yml", 2)
    assert told in error.reason


def test_a_mistyped_key_has_a_hint() -> None:
    assert wrong("enviroment: {A: 1}").hint == "Did you mean environment?"
