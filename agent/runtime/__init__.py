"""The OCI runtime `stackyard`: a POSIX sh wrapper that starts containers in network namespaces that the agent wired.

The engine calls it in place of its own runtime and it ends by becoming that runtime. It never makes, wires or removes
anything, asks nobody, and rather fails than starts a container with no network, or with the host's.
"""

from importlib.resources import files
from pathlib import Path

NAME = "stackyard"
"""What the runtime is called in the engine's configuration and in create requests."""


def wrapper() -> Path:
    """Where the executable is, for the engine's `runtimes`."""
    return Path(str(files(__name__) / "stackyard-runtime"))
