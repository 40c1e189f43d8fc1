"""Labels of services by which Traefik is told where to lead requests, read as strictly as Traefik reads them.

Traefik refuses all of a configuration for one option that it does not know, or that has another type: so what cannot be
read is left out, one router, service or middleware at a time, and each label says what is wrong with it. Pure.
"""

from __future__ import annotations

from cluster.traefik.labels import ENABLE, Element, Fault, Parts, enabled, faults, read

__all__ = ["ENABLE", "Element", "Fault", "Parts", "enabled", "faults", "read"]
