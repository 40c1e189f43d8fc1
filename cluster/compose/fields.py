"""All keys of a Compose file, those of services apart, with the kinds of their values; the model of a whole tree."""

from __future__ import annotations

from typing import Any

from cluster.compose.forms import CHOICE, FLAG, LABELS, NAME, OPTIONS, SOME_TEXT, TEXT, TEXT_OR_LIST, TEXTS, to_whole
from cluster.compose.kinds import OMITTED, Array, Either, Kind, Made, Object, Scalar, Table, plain_tree
from cluster.compose.servicefields import SERVICE

_TEXT_TABLE = Table(SOME_TEXT, names=".", closed=True)


def _external(closed: bool) -> Kind:
    return Either((FLAG, Object({"name": TEXT}, closed=closed)))


NETWORK = Object(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": Object(
            {
                "driver": TEXT,
                "config": Array(
                    Object({"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT, "aux_addresses": _TEXT_TABLE})
                ),
                "options": Made(_TEXT_TABLE, lambda value: OMITTED),  # read, and never printed
            }
        ),
        "external": _external(True),
        "internal": FLAG,
        "attachable": FLAG,
        "labels": LABELS,
        "enable_ipv4": CHOICE,
        "enable_ipv6": CHOICE,
    },
    null=True,
    always={"ipam": {}},
)
VOLUME = Object(
    {"name": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "external": _external(True), "labels": LABELS}, null=True
)
SECRET = Object(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "external": _external(False),
        "labels": LABELS,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "template_driver": TEXT,
    }
)
CONFIG = Object(
    {
        "name": TEXT,
        "file": TEXT,
        "environment": TEXT,
        "content": TEXT,
        "external": _external(False),
        "labels": LABELS,
        "template_driver": TEXT,
    }
)
MODEL = Object(
    {
        "name": TEXT,
        "model": TEXT,
        "context_size": Scalar(("integer",), to_whole),
        "runtime_flags": TEXTS,
    },
    required=("model",),
)
INCLUDE = Either(
    (
        TEXT,
        Object({"path": TEXT_OR_LIST, "env_file": TEXT_OR_LIST, "project_directory": TEXT}, extensions=False),
    )
)

ROOT = Object(
    {
        "version": TEXT,
        "name": TEXT,
        "include": Array(INCLUDE),
        "services": Table(SERVICE, names=NAME, closed=True, keep_empty=True),
        "networks": Table(NETWORK, names=NAME),
        "volumes": Table(VOLUME, names=NAME, closed=True),
        "secrets": Table(SECRET, names=NAME, closed=True),
        "configs": Table(CONFIG, names=NAME, closed=True),
        "models": Table(MODEL, names=NAME),
    }
)


def bind(root: Any) -> dict[str, Any]:
    """Give the model of a whole tree in long forms. Raises Wrong."""
    model: dict[str, Any] = ROOT.bind(root)
    model.update((key, plain_tree(value)) for key, value in root.items() if key.startswith("x-"))
    return model
