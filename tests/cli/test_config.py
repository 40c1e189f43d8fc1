"""`stack config` at the terminal: which files it reads, what it prints, and what it says of files that are wrong."""

from __future__ import annotations

import pytest

from tests.cli.terminal import Terminal

SHOP = """\
services:
  web:
    image: web:${TAG:-1}
    container_name: site
    depends_on: [db]
    environment: {PRICE: "5$$"}
  db:
    image: postgres
    volumes: ["data:/data"]
    profiles: [full]
  tool: {image: busybox, profiles: [debug], depends_on: {db: {condition: service_started, required: false}}}
volumes: {data: }
"""


async def test_it_prints_the_model_as_docker_does(person: Terminal) -> None:
    person.write("compose.yml", SHOP)
    said = await person.stack("config", "--format", "json", "-p", "shop", "--profile", "full", TAG="2")
    assert (said.code, said.err) == (0, "")
    assert said.json["name"] == "shop"
    assert said.json["services"]["web"]["image"] == "web:2"
    assert said.json["services"]["web"]["environment"] == {"PRICE": "5$"}
    assert sorted(said.json["services"]) == ["db", "web"]
    assert said.json["volumes"] == {"data": {"name": "shop_data"}}
    yaml = await person.stack("config", "-p", "shop", "--profile", "full")
    assert yaml.code == 0
    assert {"name: shop", "      PRICE: 5$$"} <= set(yaml.out.splitlines())


@pytest.mark.parametrize(
    ("arguments", "lines"),
    [
        (("--services",), ["db", "web"]),
        (("--images",), ["postgres", "web:1"]),
        (("--volumes",), ["data"]),
        (("--networks",), ["default"]),
        (("--profiles",), ["debug", "full"]),
        (("-q",), []),
    ],
)
async def test_it_prints_one_part(person: Terminal, arguments: tuple[str, ...], lines: list[str]) -> None:
    person.write("compose.yml", SHOP)
    said = await person.stack("config", "--profile", "full", *arguments)
    assert (said.code, said.out.splitlines()) == (0, lines)


async def test_hashes_are_dockers(person: Terminal) -> None:
    """They were printed by docker-compose 2.40.3 for the same file."""
    person.write(
        "compose.yml",
        "services:\n  b: {image: y, network_mode: none, pull_policy: every_2h}\n"
        '  c: {image: "y<>&", environment: {A: "é"}, ports: ["80:80"], deploy: {replicas: 3}}\n',
    )
    said = await person.stack("config", "-p", "p", "--hash", "*")
    assert said.out.splitlines() == [
        "b 30ea1cc1e01d67223a90abfc16bd7870ba7b7255b8bfc89113044a0e40bc7f22",
        "c 4e1ae79e16b1626092a26c0d5fbeeb46fd87cf650eac9e12f975a00690b3c0b8",
    ]
    said = await person.stack("config", "--hash", "d")
    assert (said.code, "there is no service 'd'" in said.err) == (2, True)


async def test_files_are_found_where_docker_looks(person: Terminal) -> None:
    person.write("docker-compose.yml", "services: {a: {image: wrong}}")
    person.write("compose.yaml", "services: {a: {image: first}}")
    person.write("compose.override.yaml", "services: {a: {image: second}}")
    person.write("other.yml", "services: {a: {image: third}}")
    person.write("sub/inner/.keep", "")
    assert (await person.stack("config", "--images")).out == "second\n"
    assert (await person.stack("config", "--images", "-f", "compose.yaml")).out == "first\n"
    assert (await person.stack("config", "--images", COMPOSE_FILE="compose.yaml:other.yml")).out == "third\n"
    person.write(".env", "COMPOSE_FILE=other.yml\nCOMPOSE_PROJECT_NAME=named\n")
    assert (await person.stack("config", "--images")).out == "third\n"
    assert (await person.stack("config", "--format", "json")).json["name"] == "named"
    said = await person.stack("config", "--format", "json", stdin=b"services: {a: {image: fourth}}", COMPOSE_FILE="-")
    assert said.json["services"]["a"]["image"] == "fourth"


async def test_files_are_found_in_the_folders_above(person: Terminal) -> None:
    person.write("shop/compose.yml", "services: {a: {image: x, volumes: ['./data:/data']}}")
    person.write("shop/sub/inner/.keep", "")
    inside = Terminal(person.folder / "shop/sub/inner")
    said = await inside.stack("config", "--format", "json")
    assert said.json["name"] == "shop"
    assert said.json["services"]["a"]["volumes"][0]["source"] == str(person.folder / "shop/data")


async def test_standard_input_and_output_files(person: Terminal) -> None:
    said = await person.stack("config", "-f", "-", "--images", "-o", "out.txt", stdin=b"services: {a: {image: x}}")
    assert (said.code, said.out) == (0, "")
    assert (person.folder / "out.txt").read_text() == "x\n"
    said = await person.stack("config", "-f", "-", "-o", "no/out.txt", stdin=b"services: {a: {image: x}}")
    assert (said.code, said.err) == (2, "error: no/out.txt cannot be written: No such file or directory\n")


async def test_env_files_take_the_place_of_dotenv(person: Terminal) -> None:
    person.write("compose.yml", "services: {a: {image: 'x:$TAG'}}")
    person.write(".env", "TAG=1")
    person.write("prod.env", "TAG=2")
    assert (await person.stack("config", "--images")).out == "x:1\n"
    assert (await person.stack("config", "--images", "--env-file", "prod.env")).out == "x:2\n"
    said = await person.stack("config", "--env-file", "none.env")
    assert said.code == 2
    assert "none.env" in said.err


async def test_verdicts_tell_of_each_key(person: Terminal) -> None:
    person.write("compose.yml", SHOP.replace("depends_on: [db]", "volumes_from: [db]"))
    said = await person.stack("config", "--profile", "full", "--verdicts")
    assert said.code == 0
    lines = [line.split(maxsplit=3) for line in said.out.splitlines()]
    assert lines[0] == ["WHERE", "KEY", "VERDICT"]
    by_key = {line[1]: line for line in lines[1:]}
    assert by_key["services.web.image"] == ["compose.yml:3", "services.web.image", "honoured"]
    assert by_key["services.web.container_name"][2] == "translated"
    assert by_key["services.web.volumes_from"][:3] == ["compose.yml:5", "services.web.volumes_from", "refused"]
    asked = await person.stack("config", "--profile", "full", "--verdicts", "--format", "json")
    (refused,) = (row for row in asked.json if row["verdict"] == "refused")
    assert (refused["key"], refused["line"]) == ("services.web.volumes_from", 5)
    assert "Name the volume in both services" in refused["text"]


async def test_a_deploy_is_stopped_by_all_refused_keys_at_once(person: Terminal) -> None:
    text = "services:\n  a:\n    image: x\n    volumes_from: [b]\n    cpu_count: 2\n  b: {image: x}\n"
    person.write("compose.yml", text)
    said = await person.stack("deploy")
    assert said.code == 2
    assert "compose.yml:4: services.a.volumes_from: refused: " in said.err
    assert "compose.yml:5: services.a.cpu_count: refused: " in said.err
    assert "accept: [volumes_from, cpu_count]" in said.err
    person.write("compose.yml", text + "x-stackyard: {accept: [volumes_from, cpu_count]}\n")
    said = await person.stack("deploy")
    assert "no manager runs on this host" in said.err
    assert "compose.yml:4: services.a.volumes_from: accepted: " in said.err


@pytest.mark.parametrize(
    ("text", "line", "field", "told"),
    [
        ("services:\n  a:\n    imgae: x\n", 3, "services.a.imgae", "Did you mean image?"),
        ("services:\n  a:\n    image: ${TAG:?name a tag}\n", 3, "services.a.image", "name a tag"),
        ("services:\n  a:\n    image: x\n    ports: ['80:80:80:80']\n", 4, "services.a.ports", "8080:80"),
        ("services:\n  a:\n    image: x\n    deploy:\n      replicas: many\n", 5, "services.a.deploy.replicas", "many"),
        ("services:\n  a:\n    image: x\n    networks: [back]\n", 4, "services.a.networks", "back"),
        ("services:\n  a: {image: x, depends_on: [b]}\n", 2, "services.a.depends_on", "b"),
        ("services:\n  a:\n    image: x\n    image: y\n", 4, "", "image"),
        ("services:\n  a: [\n", None, "", "YAML"),
        ("services:\n\ta: {}\n", 2, "", "token"),
        ("", None, "", "empty"),
        ("\0", None, "", ""),
    ],
    ids=lambda value: repr(value)[:40],
)
async def test_wrong_files_are_told_by_line_and_field(
    person: Terminal, text: str, line: int | None, field: str, told: str
) -> None:
    person.write("compose.yml", text)
    for command in ("config", "deploy"):
        said = await person.stack(command, "-f", "compose.yml")
        assert (said.code, said.out) == (2, "")
        assert f"compose.yml:{line}" in said.err if line else "compose.yml" in said.err
        assert field in said.err
        assert told in said.err
        assert "Traceback" not in said.err


async def test_a_deploy_with_two_names_is_refused(person: Terminal) -> None:
    person.write("compose.yml", "services: {a: {image: x}}")
    said = await person.stack("deploy", "-p", "one", "two")
    assert (said.code, said.err) == (2, "error: the stack has two names, 'two' and 'one'\nGive it once.\n")
