"""What stacks, services, networks, volumes and images may be called in the cluster."""

from __future__ import annotations

import re

from cluster.compose.tree import Where

LONGEST_SERVICE = 63
"""Of `stack_service`: it becomes a DNS label."""

_STACK = re.compile(r"[a-z0-9][a-z0-9_-]*")
_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
_ALIAS = re.compile(r"[a-zA-Z0-9_]([a-zA-Z0-9_.-]*[a-zA-Z0-9_])?")

_DOMAIN = r"(?:[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?)*"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_IMAGE = re.compile(
    rf"(?:(?:{_DOMAIN}|\[[a-fA-F0-9:]+\])(?::[0-9]+)?/)?{_PATH}(?:/{_PATH})*"
    r"(?::[A-Za-z0-9_][A-Za-z0-9_.-]{0,127})?(?:@[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,})?"
)


def check_stack(name: str, where: Where) -> str:
    if not _STACK.fullmatch(name) or len(name) > LONGEST_SERVICE:
        raise where.error(
            f"{name[:80]!r} cannot be the name of a stack",
            hint=f"Lower-case letters, digits, - and _, beginning with a letter or digit, at most {LONGEST_SERVICE}.",
        )
    return name


def check_key(key: str, kind: str, where: Where) -> str:
    """Check the key of a service, network or volume."""
    if not _KEY.fullmatch(key):
        raise where.error(
            f"{key[:80]!r} cannot be the name of a {kind}",
            hint="Letters, digits, dots, - and _, beginning with a letter or digit.",
        )
    return key


def check_service(stack: str, key: str, where: Where) -> str:
    check_key(key, "service", where)
    full = f"{stack}_{key}"
    if len(full) > LONGEST_SERVICE:
        raise where.error(
            f"{full[:80]} is {len(full)} characters long, a service may have {LONGEST_SERVICE}",
            hint="Shorten the name of the stack or of the service.",
        )
    return key


def is_alias(text: str) -> bool:
    """Tell whether something can be a name on a network."""
    return bool(_ALIAS.fullmatch(text)) and len(text) <= 253 and all(len(label) <= 63 for label in text.split("."))


def check_alias(alias: str, where: Where) -> str:
    if not is_alias(alias):
        raise where.error(f"{alias[:80]!r} cannot be a name on a network", hint="Write it like a host name.")
    return alias


def check_image(image: str, where: Where) -> str:
    if len(image) > 500 or not _IMAGE.fullmatch(image):
        raise where.error(
            f"{image[:80]!r} is not the name of an image",
            hint="Write it like nginx:1.27, registry.example:5000/team/app or name@sha256:...",
        )
    return image
