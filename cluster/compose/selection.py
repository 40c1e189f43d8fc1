"""Which part of a model is asked for: the services of the active profiles, and what those use."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any


def active(service: dict[str, Any], profiles: Collection[str]) -> bool:
    """Whether a service is to run: it has no profile, or an active one; `*` activates all."""
    own = service.get("profiles")
    return not own or "*" in profiles or any(profile in profiles for profile in own)


def only_used(model: dict[str, Any]) -> None:
    """Leave out, in place, the networks, volumes, secrets, configs and models that no service uses."""
    used: dict[str, set[str]] = {
        "networks": set(),
        "volumes": set(),
        "secrets": set(),
        "configs": set(),
        "models": set(),
    }
    for service in model["services"].values():
        for section in ("networks", "models"):
            used[section].update(service.get(section) or ())
        for section in ("secrets", "configs"):
            used[section].update(grant.get("source", "") for grant in service.get(section) or ())
        used["secrets"].update(grant.get("source", "") for grant in (service.get("build") or {}).get("secrets") or ())
        used["volumes"].update(
            mount["source"]
            for mount in service.get("volumes") or ()
            if mount.get("type") == "volume" and mount.get("source")
        )
    for section, names in used.items():
        kept = {name: value for name, value in (model.get(section) or {}).items() if name in names}
        if kept:
            model[section] = {name: {} if value is None else value for name, value in kept.items()}
        else:
            model.pop(section, None)
