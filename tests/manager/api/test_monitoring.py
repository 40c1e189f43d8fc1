"""Who is told what by the routes for programs that watch the cluster."""

from __future__ import annotations

import pytest

from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

PATHS = ("/metrics", "/metrics/tasks", "/discovery/prometheus", "/discovery/traefik")


@pytest.mark.parametrize("path", PATHS)
async def test_nobody_without_a_token_and_no_agent_is_told(manager: RunningManager, path: str) -> None:
    assert (await manager.anonymous().ask("GET", path)).status == 401
    assert (await manager.node(await manager.join("n1")).ask("GET", path)).status == 403


async def test_a_viewer_is_told(manager: RunningManager) -> None:
    viewer = await manager.user("prometheus", "viewer", "*")
    await manager.join("n1")
    text = await viewer.get("/metrics")
    assert 'stackyard_node_ready{node="n1"} 0' in text.splitlines()
    assert "# TYPE stackyard_managers gauge\nstackyard_managers 1\n" in text
    assert await viewer.get("/discovery/prometheus") == [] and await viewer.get("/discovery/traefik") == {}
