"""The Compose Specification on several files and variables: 12 interpolation, 13 merge, 14 include, 15 profiles,
extends, env_file, and the resources at the top of a file."""

from __future__ import annotations

from typing import Any

import pytest

from cluster import compose
from cluster.errors import ComposeError
from tests.cluster.compose.loading import FILE, RESOURCES, fields, model, project, reader_of, wrong

INTERPOLATED = [
    ("${U-d}", "d"),
    ("${E-d}", ""),
    ("${E:-d}", "d"),
    ("${S:+r}", "r"),
    ("${U:+r}", ""),
    ("${U:-${S}x}", "vx"),
    ("$$S", "$S"),
    ("${S}s$S", "vsv"),
    ("$U.", "."),
    ("${U:-http://x:80/}", "http://x:80/"),
    ("${U:-{x}}", "{x}"),
    ("${U:-a}}", "a}"),
    ("cost$1", "cost$1"),
    ("a$", "a$"),
    ("${S:?must}", "v"),
    ("$Sé", "vé"),
]


@pytest.mark.parametrize(("text", "expected"), INTERPOLATED)
def test_12_interpolation(text: str, expected: str) -> None:
    assert fields(f'hostname: "{text}", domainname: z', env={"E": "", "S": "v"}).get("hostname", "") == expected


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("${U:?must}", "required and has no value: must"),
        ("${U?}", "required and has no value"),
        ("${U!}", "not a variable expression"),
        ("${}", "not a variable expression"),
        ("${1}", "not a variable expression"),
        ("${U:-a", "never closed"),
        ("${S:-${U:?m}}", "required and has no value: m"),
        ("${S:-a\\nb}", "never closed"),
    ],
)
def test_12_wrong_expressions(text: str, told: str) -> None:
    assert told in wrong(f'hostname: "{text}"', env={"S": "v"}).reason


def test_12_keys_are_not_interpolated_and_list_items_are() -> None:
    assert fields('environment: {"${S}": 1}', env={"S": "v"})["environment"] == {"${S}": "1"}
    assert fields('environment: ["${S}=1"]', env={"S": "v"})["environment"] == {"v": "1"}


def test_12_the_shell_goes_before_the_dotenv_file_and_containers_do_not_see_it() -> None:
    files = {"/srv/app/.env": "A=dotenv\nB=dotenv"}
    found = fields("user: $A, hostname: $B, environment: [B]", env={"A": "shell"}, files=files)
    assert found == {"user": "shell", "hostname": "dotenv", "environment": {"B": "dotenv"}}


def test_12_an_env_file_sees_the_variables_of_those_before_it() -> None:
    files = {FILE: "services: {a: {image: '$A-$B-$C'}}", "/e": "A=1\nB=1", "/f": "B=2\nC=$A$B\nA"}
    loaded = compose.read([FILE], {}, reader_of(files), name="p", env_files=["/e", "/f"])
    assert loaded.model["services"]["a"]["image"] == "1-2-12"


def test_unset_variables_are_told_once() -> None:
    loaded = project("services: {a: {image: 'x$U', user: $U}}")
    assert [note.text for note in loaded.notes] == ["the variable U is not set and stands for nothing"]


MERGED: list[tuple[str, str, dict[str, Any]]] = [
    ("environment: {A: 1, B: 1}", "environment: [A=2, C]", {"environment": {"A": "2", "B": "1", "C": None}}),
    ("labels: [a=1]", "labels: {a: 2, b: 3}", {"labels": {"a": "2", "b": "3"}}),
    ("command: x, entrypoint: y", "command: z", {"command": ["z"], "entrypoint": ["y"]}),
    ("command: x", "command: null", {}),
    ("environment: {A: 1}", "environment: null", {"environment": {"A": "1"}}),
    ("user: x", "user: null", {"user": "x"}),
    ("dns: 1.1.1.1", "dns: [1.1.1.1, 2.2.2.2]", {"dns": ["1.1.1.1", "2.2.2.2"]}),
    ("cap_add: [A]", "cap_add: [B, A]", {"cap_add": ["A", "B"]}),
    ("extra_hosts: ['h:1.1.1.1']", "extra_hosts: {h: 2.2.2.2}", {"extra_hosts": ["h=1.1.1.1", "h=2.2.2.2"]}),
    ("networks: [n]", "networks: {m: {aliases: [q]}}", {"networks": {"m": {"aliases": ["q"]}, "n": None}}),
    ("healthcheck: {test: x, retries: 2}", "healthcheck: {test: [CMD, y]}",
     {"healthcheck": {"test": ["CMD", "y"], "retries": 2}}),
    ("logging: {driver: x, options: {a: b}}", "logging: {driver: x, options: {c: d}}",
     {"logging": {"driver": "x", "options": {"a": "b", "c": "d"}}}),
    ("logging: {driver: x, options: {a: b}}", "logging: {driver: y, options: {c: d}}",
     {"logging": {"driver": "y", "options": {"c": "d"}}}),
    ("logging: {driver: x, options: {a: b}}", "logging: {options: {c: d}}",
     {"logging": {"driver": "x", "options": {"a": "b", "c": "d"}}}),
    ("ulimits: {nofile: 1, nproc: {soft: 1, hard: 2}}", "ulimits: {nofile: {soft: 3, hard: 4}, nproc: 5}",
     {"ulimits": {"nofile": {"soft": 3, "hard": 4}, "nproc": 5}}),
    ("depends_on: [b]", "depends_on: {b: {condition: service_healthy}}",
     {"depends_on": {"b": {"condition": "service_healthy", "required": True}}}),
    ("build: x", "build: {dockerfile: y}", {"build": {"context": "/srv/app/x", "dockerfile": "y"}}),
    ("build: {context: x, args: [A=1]}", "build: y",
     {"build": {"context": "/srv/app/y", "dockerfile": "Dockerfile", "args": {"A": "1"}}}),
    ("build: {context: x, platforms: [l/a, l/b], tags: [t]}", "build: {platforms: [l/c, l/b], tags: [t]}",
     {"build": {"context": "/srv/app/x", "dockerfile": "Dockerfile", "tags": ["t"],
                "platforms": ["l/a", "l/b", "l/c", "l/b"]}}),
    ("volumes: ['vv:/v', /anon]", "volumes: ['ww:/v']",
     {"volumes": [{"type": "volume", "source": "ww", "target": "/v", "volume": {}},
                  {"type": "volume", "target": "/anon", "volume": {}}]}),
    ("ports: ['53:53/tcp']", "ports: ['53:53/udp', {target: 53, published: 53, mode: host}]",
     {"ports": [{"mode": "host", "target": 53, "published": "53", "protocol": "tcp"},
                {"mode": "ingress", "target": 53, "published": "53", "protocol": "udp"}]}),
    ("ports: ['80:80']", "ports: !override ['90:90']",
     {"ports": [{"mode": "ingress", "target": 90, "published": "90", "protocol": "tcp"}]}),
    ("ports: ['80:80']", "ports: !reset []", {}),
    ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", {"environment": {"B": "2"}}),
    ("deploy: {placement: {constraints: [a]}}", "deploy: {placement: {constraints: [b]}}",
     {"deploy": {"resources": {}, "placement": {"constraints": ["a", "b"]}}}),
]  # fmt: skip


@pytest.mark.parametrize(("base", "over", "expected"), MERGED, ids=[f"{base} + {over}" for base, over, _ in MERGED])
def test_13_merge(base: str, over: str, expected: dict[str, Any]) -> None:
    assert fields(base, over) == expected


@pytest.mark.parametrize(
    ("base", "over", "field"),
    [
        ("deploy: {replicas: 1}", "deploy: x", "deploy"),
        ("cap_add: [a]", "cap_add: {x: 1}", "cap_add"),
    ],
)
def test_13_other_types_cannot_be_merged(base: str, over: str, field: str) -> None:
    error = wrong(base, over)
    assert (error.file, error.field) == ("/srv/app/second.yml", f"services.a.{field}")


@pytest.mark.parametrize("key", ["depends_on", "networks", "models", "build"])
def test_05_an_extended_service_of_a_wrong_type_cannot_be_merged(key: str) -> None:
    value = "[x]" if key == "build" else "x"
    text = f"services:\n  b: {{image: x, {key}: {value}}}\n  a: {{extends: b, {key}: {{context: {{}}}}}}\n"
    with pytest.raises(ComposeError, match="of an earlier file cannot be overridden") as caught:
        model(text)
    assert caught.value.field == f"services.a.{key}"


def test_13_documents_of_one_file_are_laid_over_one_another() -> None:
    text = "services: {a: {image: x, user: u}}\n---\nservices: {a: {image: y}}\n"
    service = model(text)["services"]["a"]
    assert (service["image"], service["user"]) == ("y", "u")


def test_10_merge_keys_are_shallow() -> None:
    text = "x-b: &b {environment: {A: 1}, user: u}\nservices: {a: {<<: *b, image: x, environment: {B: 2}}}"
    service = model(text)["services"]["a"]
    assert (service["environment"], service["user"]) == ({"B": "2"}, "u")


BASE = {
    "/srv/app/sub/base.yml": """
services:
  base:
    extends: other
    volumes: [./v:/v]
    env_file: base.env
    depends_on: [b]
    environment: {A: base, E: e}
    command: !reset null
  other: {image: o, command: c, ports: [80], build: ctx, profiles: [p]}
""",
    "/srv/app/sub/base.env": "F=file\nA=file",
}


def test_05_extends_of_another_file_has_that_files_paths() -> None:
    text = "services:\n  a: {extends: {file: sub/base.yml, service: base}, environment: {A: own}}\n  b: {image: y}"
    service = model(text, files=BASE, profiles=("p",))["services"]["a"]
    assert service == {
        "profiles": ["p"],
        "build": {"context": "/srv/app/sub/ctx", "dockerfile": "Dockerfile"},
        "command": None,
        "depends_on": {"b": {"condition": "service_started", "required": True}},
        "entrypoint": None,
        "environment": {"A": "own", "E": "e", "F": "file"},
        "image": "o",
        "networks": {"default": None},
        "ports": [{"mode": "ingress", "target": 80, "protocol": "tcp"}],
        "volumes": [{"type": "bind", "source": "/srv/app/sub/v", "target": "/v", "bind": {"create_host_path": True}}],
    }


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("services: {a: {extends: a}}", "extend each other in a circle"),
        ("services: {a: {extends: b}, b: {extends: {service: a}}}", "extend each other in a circle"),
        ("services: {a: {extends: z}}", "there is no service 'z'"),
        ("services: {a: {extends: {service: z, file: sub/base.yml}}}", "there is no service 'z' in /srv/app/sub"),
        ("services: {a: {extends: {service: z, file: no.yml}}}", "there is no file /srv/app/no.yml"),
        ("services: {a: {extends: {file: no.yml}}}", "not named"),
        ("services: {a: {image: x, extends: {service: base, file: https://x/y}}}", "on another machine"),
    ],
)
def test_05_extends_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(ComposeError, match=told) as caught:
        model(text, files=BASE)
    assert (caught.value.file, caught.value.line) == ("/srv/app/compose.yml", 1)


INCLUDED = {
    "/srv/app/sub/inc.yml": "services: {i: {image: 'i${T}', volumes: [./v:/v], environment: [T]}}\nvolumes: {q: }",
    "/srv/app/sub/more.yml": "services: {i: {user: u}}",
    "/srv/app/sub/.env": "T=sub\nS=sub",
    "/srv/app/other.env": "T=other",
    "/srv/app/later.env": "T=later-$T-${S-}",
}


@pytest.mark.parametrize(
    ("include", "env", "image", "source"),
    [
        ("[sub/inc.yml]", {}, "isub", "/srv/app/sub/v"),
        ("[sub/inc.yml]", {"T": "shell"}, "ishell", "/srv/app/sub/v"),
        ("[{path: sub/inc.yml, env_file: other.env}]", {}, "iother", "/srv/app/sub/v"),
        ("[{path: sub/inc.yml, env_file: [other.env, later.env]}]", {}, "ilater-other-", "/srv/app/sub/v"),
        ("[{path: sub/inc.yml, project_directory: .}]", {}, "i", "/srv/app/v"),
        ("[{path: [sub/inc.yml, sub/more.yml]}]", {}, "isub", "/srv/app/sub/v"),
    ],
)
def test_14_include(include: str, env: dict[str, str], image: str, source: str) -> None:
    service = model(f"include: {include}\nservices: {{a: {{image: x}}}}", env=env, files=INCLUDED)["services"]["i"]
    assert (service["image"], service["volumes"][0]["source"]) == (image, source)
    assert service["environment"]["T"] == (image[1:] or None)
    assert service.get("user") == ("u" if "more" in include else None)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("include: [sub/inc.yml]\nservices: {i: {image: x}}", "services.i is in this file and in an included one"),
        ("include: [no.yml]", "there is no file /srv/app/no.yml"),
        ("include: [compose.yml]", "include each other in a circle"),
        ("include: [{path: [sub/inc.yml, compose.yml]}]", "include each other in a circle"),
        ("include: {path: x}", "a list is wanted"),
        ("include: [{paths: x}]", "the key is unknown"),
        ("include: [{path: sub/inc.yml, env_file: no.env}]", "there is no file /srv/app/no.env"),
    ],
)
def test_14_includes_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(ComposeError, match=told):
        model(text, files=INCLUDED)


def test_15_profiles() -> None:
    text = "services:\n  a: {image: x}\n  d: {image: y, profiles: [dbg, e]}\n"
    assert list(model(text)["services"]) == ["a"]
    assert list(model(text, profiles=("dbg",))["services"]) == ["a", "d"]
    assert list(model(text, profiles=("*",))["services"]) == ["a", "d"]
    assert list(model(text, env={"COMPOSE_PROFILES": "z,e"})["services"]) == ["a", "d"]
    with pytest.raises(ComposeError, match="its profile is not active"):
        model(text + "  c: {image: z, depends_on: [d]}")
    optional = "  c: {image: z, depends_on: {d: {condition: service_started, required: false}}}"
    assert list(model(text + optional)["services"]) == ["a", "c"]


def test_05_env_files() -> None:
    files = {"/srv/app/e": "export B=\"x $A ${U:-d}\"\nC='x $A'\nD=a # c\nF\nG=a#b\n", "/srv/app/r": 'B="x" # c\nD=r'}
    found = fields("env_file: [e], environment: {C: own, D: }", env={"A": "1"}, files=files)["environment"]
    assert found == {"B": "x 1 d", "C": "own", "D": None, "G": "a#b"}
    found = fields("env_file: [e, {path: r, format: raw}, {path: no, required: false}]", files=files)["environment"]
    assert (found["B"], found["D"]) == ('"x" # c', "r")
    assert "there is no file /srv/app/no" in wrong("env_file: no").reason
    files = {"/srv/app/e": "A=1\nB=1\nC=${U}", "/srv/app/f": "B=2\nD=${A}${B}${U}\nA"}
    found = fields("env_file: [e, f], environment: {U: own}", files=files)["environment"]
    assert found == {"A": "1", "B": "2", "C": "own", "D": "12own", "U": "own"}
    labels = fields("label_file: l, labels: {b: own}", files={"/srv/app/l": "a=1\nb=2"})["labels"]
    assert labels == {"a": "1", "b": "own"}


RESOURCE = [
    ("networks: {n: }", "networks", "n", {"name": "p_n", "ipam": {}}),
    ("networks: {n: {name: 'r${Z:-x}', external: true}}", "networks", "n",
     {"name": "rx", "ipam": {}, "external": True}),
    ("networks: {n: {external: true}}", "networks", "n", {"name": "n", "ipam": {}, "external": True}),
    ("networks: {n: {external: {name: z}}}", "networks", "n", {"name": "z", "ipam": {}, "external": True}),
    ("networks: {n: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}", "networks", "n",
     {"name": "p_n", "ipam": {"config": [{"subnet": "10.0.0.0/8"}]}}),
    ("volumes: {vv: {driver: local, driver_opts: {o: bind, device: ./x, n: 1}}}", "volumes", "vv",
     {"name": "p_vv", "driver": "local", "driver_opts": {"device": "/srv/app/x", "n": "1", "o": "bind"}}),
    ("configs: {c: {content: 'a=${HOME} $$x'}}", "configs", "c", {"name": "p_c", "content": "a=/home/user $x"}),
    ("configs: {c: {environment: HOME}}", "configs", "c", {"name": "p_c", "environment": "HOME"}),
    ("secrets: {s: {file: ./s}}", "secrets", "s", {"name": "p_s", "file": "/srv/app/s"}),
]  # fmt: skip
USER = "services: {a: {image: x, networks: [n], volumes: ['vv:/v'], secrets: [s], configs: [c]}}\n"


def with_resources(text: str) -> str:
    section = text.partition(":")[0]
    others = [line for line in RESOURCES.splitlines() if not line.startswith(section)]
    return "\n".join([USER.rstrip(), text, *others])


@pytest.mark.parametrize(("text", "section", "key", "expected"), RESOURCE, ids=[text for text, *_ in RESOURCE])
def test_06_to_09_resources(text: str, section: str, key: str, expected: dict[str, Any]) -> None:
    assert model(with_resources(text))[section] == {key: expected}  # and none that no service uses


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("networks: {n: {name: q, external: {name: z}}}", "two names"),
        ("networks: {n: {external: maybe}}", "neither true nor false"),
        ("volumes: {vv: {external: true, driver: x}}", "an external volume cannot have it"),
        ("secrets: {s: {}}", "one of file, environment is missing"),
        ("secrets: {s: {file: x, environment: Y}}", "exclude each other"),
        ("secrets: {s: {driver: x}}", "file or environment is missing"),
        ("configs: {c: {content: x, file: y}}", "exclude each other"),
        ("configs: {c: }", "a mapping is wanted"),
        ("volumes: [vv]", "a mapping is wanted"),
        ("networks: {n: , '': {labels: x}}", "a mapping or a list is wanted"),
    ],
)
def test_06_to_09_resources_that_cannot_be(text: str, told: str) -> None:
    with pytest.raises(ComposeError, match=told):
        model(with_resources(text))


@pytest.mark.parametrize(
    ("name", "env", "top", "expected"),
    [
        ("given", {"COMPOSE_PROJECT_NAME": "env"}, "written", "given"),
        (None, {"COMPOSE_PROJECT_NAME": "env"}, "written", "env"),
        (None, {}, "Written $X!", "writtenv"),
        (None, {}, "", "app"),
    ],
)
def test_04_the_name_of_a_project(name: str | None, env: dict[str, str], top: str, expected: str) -> None:
    from cluster import compose
    from tests.cluster.compose.loading import FILE, reader_of

    text = f"name: '{top}'\nservices: {{a: {{image: $COMPOSE_PROJECT_NAME}}}}"
    loaded = compose.read([FILE], {"X": "v", **env}, reader_of({FILE: text}), name=name)
    assert (loaded.name, loaded.model["services"]["a"]["image"]) == (expected, expected)


@pytest.mark.parametrize("text", ["", "# nothing", "null", "[]", "x", "services: []", "services: {a: }", "service: {}"])
def test_what_is_no_compose_file(text: str) -> None:
    with pytest.raises(ComposeError):
        model(text)
