"""What would come to nothing, or is not where one may think, is told of with its place, and stops nothing."""

from __future__ import annotations

import pytest

from tests.cluster.compose.loading import FILE as PATH
from tests.cluster.compose.loading import project

FILE = """\
name: shop
services:
  web:
    image: app:1
    labels: {traefik.enable: "true"}
    deploy:
      labels:
        prometheus.port: "%s"
  api:
    image: app:1
    deploy:
      labels:
        traefik.enable: "%s"
        traefik.http.routers.api.rule: Host(`api`)
        traefik.http.routers.api.entrypoint: web
"""


def told(port: str, enable: str) -> list[str]:
    return [str(note).removeprefix(PATH) for note in project(FILE % (port, enable)).doubts()]


def test_doubts_have_a_place_and_say_what_is_meant() -> None:
    inside, port, label = sorted(told("80x", "true"), key=lambda line: int(line.split(":")[1]))
    assert inside.startswith(":5: services.web.labels.traefik.enable: it is the containers' here")
    assert port == (
        ":8: services.web.deploy.labels.prometheus.port: '80x' is no port, so Prometheus does not find the tasks"
    )
    assert label == (
        ":15: services.api.deploy.labels.traefik.http.routers.api.entrypoint: Traefik has no option "
        "'entrypoint' there; Traefik is told nothing of its router api. Did you mean entrypoints?"
    )


@pytest.mark.parametrize(("enable", "count"), [("false", 0), ("yes", 1)])
def test_what_is_not_for_traefik_is_not_looked_at(enable: str, count: int) -> None:
    assert len([line for line in told("9100", enable) if "services.api" in line]) == count


def test_a_folder_beside_the_file_is_told_to_be_the_nodes() -> None:
    text = "services: {web: {image: a, volumes: ['./site:/site', '/srv/data:/data', 'kept:/kept']}}\n"
    [note] = project(text + "volumes: {kept: }\n").doubts()
    assert note.where.field == "services.web.volumes.0" and "site of the node that runs the task" in note.text
