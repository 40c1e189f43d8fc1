"""Our OCI runtime, known to the engine: its file edited, the engine told to read it, and asked whether it did."""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from cli.host import daemon_json
from cli.host.engine import Engine
from cluster.engine import RUNTIME
from cluster.errors import Conflict, Failed, UserError

BACKUP = ".before-stackyard"
_RELOAD_WITHIN = 15.0
_PAUSE = 0.05


def packaged_wrapper() -> Path:
    """The OCI runtime of this installation; it belongs to the agent, which the command does not import."""
    spec = find_spec("agent")
    if spec is None or not spec.submodule_search_locations:
        raise Failed("the package `agent` is not installed beside this command", hint="Install stackyard anew.")
    return Path(next(iter(spec.submodule_search_locations))) / "runtime" / "stackyard-runtime"


def install_wrapper(target: Path) -> None:
    """Put the wrapper where it stays while the installation is replaced: containers need it until they end."""
    if os.statvfs(target.parent).f_flag & os.ST_NOEXEC:
        raise UserError(
            f"nothing can be executed below {target.parent} (mounted noexec), where the engine would run {target.name}",
            hint="Give another directory with --data-dir.",
        )
    data = packaged_wrapper().read_bytes()
    if not (target.exists() and target.read_bytes() == data and os.access(target, os.X_OK)):
        _write(target, data, 0o755)


def plan(
    engine: Engine, info: Mapping[str, Any], wrapper: Path
) -> tuple[Path, bytes | None, dict[str, Any], dict[str, Any]]:
    """The engine's file, its content (None: there is none), and its settings as they are and as they are to be.

    Raises UserError for a file that cannot be edited, and Conflict when the engine would forget runtimes by reading it.
    """
    file = engine.configuration().file.resolve()
    before = _read(file)
    settings = daemon_json.read(before or b"", str(file))
    if forgotten := daemon_json.missing(settings, info.get("Runtimes") or {}):
        raise Conflict(
            f"the engine has the runtime {', '.join(forgotten)}, which {file} does not name: "
            "told to read that, it would forget it",
            hint="Move what its command line adds (--add-runtime) into the file, and restart the engine.",
        )
    return file, before, settings, daemon_json.with_runtimes(settings, str(wrapper), info.get("DefaultRuntime", ""))


def register(engine: Engine, info: Mapping[str, Any], wrapper: Path, say: Callable[[str], None]) -> Path:
    """Have the engine know our runtime in front of its own ones; gives the file that it has this from.

    The file is edited in one step, with a copy of it kept beside; should the engine not take it, it is put back.
    """
    file, before, settings, wanted = plan(engine, info, wrapper)
    if wanted == settings and _knows(info, wanted["runtimes"]):
        return file
    say(f"registering the runtime {RUNTIME} in {file}, and having the engine read it")
    if before is not None and not any(map(daemon_json.ours, settings.get("runtimes", {}))):
        _write(_backup(file), before, like=file)
    file.parent.mkdir(parents=True, exist_ok=True)
    _write(file, daemon_json.written(wanted, before or b""), like=file)
    engine.reload()
    if not _until(lambda: _knows(engine.info(), wanted["runtimes"])):
        _put_back(file, before)
        engine.reload()
        raise Failed(
            f"the engine did not take the runtime from {file}, which is as it was again",
            hint="Its log tells why (journalctl -u docker): perhaps a setting is in the file and on its command line.",
        )
    return file


def unregister(engine: Engine, file: Path, say: Callable[[str], None]) -> None:
    """Take our runtimes out of the engine and its file. An engine that does not run finds them gone when it starts."""
    before = _read(file)
    if before is None:
        return
    settings = daemon_json.read(before, str(file))
    rest = daemon_json.without_runtimes(settings)
    if rest != settings:
        say(f"taking the runtime {RUNTIME} out of {file}")
    if engine.path.exists():
        # the engine keeps its runtimes when the key is missing: first it reads that there are no others
        others = {**settings, "runtimes": rest.get("runtimes", {})}
        if any(map(daemon_json.ours, engine.info().get("Runtimes") or {})):
            _write(file, daemon_json.written(others, before), like=file)
            engine.reload()
            if not _until(lambda: not any(map(daemon_json.ours, engine.info().get("Runtimes") or {}))):
                raise Failed(
                    f"the engine does not let go of the runtime {RUNTIME}",
                    hint="Its log tells why (journalctl -u docker); then run the command again.",
                )
    backup = _backup(file)
    if rest or backup.exists() or (engine.path.exists() and engine.configuration().named):
        _write(file, daemon_json.written(rest, before), like=file)
    else:
        file.unlink()
    backup.unlink(missing_ok=True)


def _knows(info: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    known = info.get("Runtimes") or {}
    return all(
        (known.get(name) or {}).get("path") == one["path"]
        and list((known.get(name) or {}).get("runtimeArgs") or ()) == list(one.get("runtimeArgs") or ())
        for name, one in wanted.items()
        if daemon_json.ours(name)
    )


def _until(condition: Callable[[], bool]) -> bool:
    """Ask until it is so: an engine tells nobody that it has read its file."""
    deadline = time.monotonic() + _RELOAD_WITHIN
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(_PAUSE)
    return True


def _backup(file: Path) -> Path:
    return file.with_name(file.name + BACKUP)


def _read(file: Path) -> bytes | None:
    try:
        return file.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise UserError(f"the engine's configuration cannot be read: {error}") from error


def _put_back(file: Path, before: bytes | None) -> None:
    if before is None:
        file.unlink(missing_ok=True)
    else:
        _write(file, before, like=file)
    _backup(file).unlink(missing_ok=True)


def _write(file: Path, data: bytes, mode: int = 0o644, like: Path | None = None) -> None:
    """Put a file in its place, whole or not at all, with owner, mode and attributes of the one that was there."""
    fresh = file.with_name(f".{file.name}.new")
    fresh.unlink(missing_ok=True)
    try:
        with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as output:
            output.write(data)
            os.fchmod(output.fileno(), mode)
            if like is not None and like.exists():
                found = like.stat()
                os.fchown(output.fileno(), found.st_uid, found.st_gid)
                shutil.copystat(like, fresh)
                os.utime(output.fileno())
            output.flush()
            os.fsync(output.fileno())
        fresh.replace(file)
    except OSError as error:
        with contextlib.suppress(OSError):
            fresh.unlink(missing_ok=True)
        raise Failed(f"{file} cannot be written: {error.strerror}") from error
