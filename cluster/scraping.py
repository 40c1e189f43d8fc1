"""Labels of a service, under deploy.labels, by which Prometheus finds what its tasks tell."""

from __future__ import annotations

from collections.abc import Mapping

PORT, PATH = "prometheus.port", "prometheus.path"
"""On which port they tell their metrics, and under which path if not /metrics."""


def port_of(labels: Mapping[str, str]) -> int | None:
    """Give the port; None where there is none, and where what stands there is none."""
    text = labels.get(PORT, "")
    return int(text) if text.isascii() and text.isdecimal() and 0 < int(text[:6]) < 65536 else None
