"""Services by their virtual addresses, as containers see them."""

from __future__ import annotations

import json
from collections import Counter
from typing import Any

import pytest

from tests.integration.conftest import Cluster, eventually

pytestmark = [pytest.mark.lab, pytest.mark.root, pytest.mark.timeout(1200)]


def resolve(cluster: Cluster, name: str) -> list[str]:
    found: list[str] = cluster.get("n1", 8080, f"/resolve?name={name}").get("addresses", [])
    return found


def fetch(cluster: Cluster, url: str) -> Any:
    return cluster.get("n1", 8080, f"/fetch?url={url}&timeout=60", timeout=90)


def test_a_service_has_one_address_whatever_its_tasks_do(cluster: Cluster, probe: str) -> None:
    cluster.deploy("two-nets.yml", probe)
    [vip] = resolve(cluster, "web")
    assert resolve(cluster, f"{probe}_web") == resolve(cluster, "www") == [vip]
    tasks = resolve(cluster, "tasks.web")
    assert len(tasks) == 2 and vip not in tasks

    answers = [json.loads(fetch(cluster, "http://web:8000/")["body"]) for _ in range(40)]
    assert len(Counter(answer["host"] for answer in answers)) == 2
    [client] = {answer["client"] for answer in answers}
    assert client != vip and client.rpartition(".")[0] == vip.rpartition(".")[0], "tasks see who asks"

    cluster.stack("scale", f"{probe}_web=4")
    eventually(lambda: len(resolve(cluster, "tasks.web")) == 4, "four tasks are in the names")
    assert resolve(cluster, "web") == [vip]

    def answers_of_all() -> bool:
        """A task is led to once it runs; that its server listens takes a moment longer."""
        said = [fetch(cluster, "http://web:8000/") for _ in range(60)]
        wrong = {answer["error"] for answer in said if "error" in answer}
        assert all("refused" in error for error in wrong), wrong
        return not wrong and len({json.loads(answer["body"])["host"] for answer in said}) == 4

    eventually(answers_of_all, "all four answer")
