"""A model as `docker compose config` prints it.

YAML is a Compose file again, with its dollars doubled. JSON is for programs and holds the values as they are: nobody
who reads it has to know that rule (Docker doubles there too).
"""

from __future__ import annotations

from typing import Any

_SIZES = ("mem_limit", "mem_reservation", "memswap_limit", "shm_size")
_RATES = ("weight_device", "device_read_bps", "device_read_iops", "device_write_bps", "device_write_iops")


def as_json(model: dict[str, Any]) -> str:
    import json

    return json.dumps(model, indent=2, ensure_ascii=False) + "\n"


def as_yaml(model: dict[str, Any]) -> str:
    """Write YAML, without what no file may hold: null commands, empty ipam, capital letters in blkio_config."""
    import yaml

    dumper = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
    text: str = yaml.dump(_doubled(_lean(model)), Dumper=dumper, sort_keys=False, allow_unicode=True, width=2**31 - 1)
    return text


def _doubled(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _doubled(inner) for key, inner in value.items()}
    return [_doubled(item) for item in value] if isinstance(value, list) else value


def _lean(model: dict[str, Any]) -> dict[str, Any]:
    result = dict(model)
    result["services"] = {name: _service(service) for name, service in model["services"].items()}
    if "networks" in model:
        result["networks"] = {
            name: {key: value for key, value in network.items() if key != "ipam" or value}
            for name, network in model["networks"].items()
        }
    return result


def _service(service: dict[str, Any]) -> dict[str, Any]:
    lean = {key: value for key, value in service.items() if value is not None or key not in ("command", "entrypoint")}
    for key in _SIZES:
        if service.get(key, "").startswith("-"):
            lean[key] = int(service[key])  # as text it is no size
    if "blkio_config" in service:
        lean["blkio_config"] = {
            key: [{name.lower(): amount for name, amount in one.items()} for one in value] if key in _RATES else value
            for key, value in service["blkio_config"].items()
        }
    if "deploy" in service:
        lean["deploy"] = {
            key: value for key, value in service["deploy"].items() if value or key not in ("resources", "placement")
        }
    return lean
