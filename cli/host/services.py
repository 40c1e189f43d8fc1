"""Systemd, where there is one: installs, starts and removes our units."""

from __future__ import annotations

import subprocess
from pathlib import Path

from cluster.errors import Failed

DIRECTORY = Path("/etc/systemd/system")
_TIMEOUT = 120  # seconds; stopping a unit may take half of that
_RUNS = Path("/run/systemd/system")  # as sd_booted(3) tells


def available() -> bool:
    """Whether this host was booted with systemd."""
    return _RUNS.is_dir()


def start(unit: str, text: str) -> None:
    """Have a unit run now and after each boot, with this text. One that runs with it already is left alone."""
    file = DIRECTORY / unit
    if not (file.exists() and file.read_text() == text):
        fresh = file.with_name(f".{unit}.new")
        fresh.write_text(text)
        fresh.chmod(0o644)
        fresh.replace(file)
        _systemctl("daemon-reload")
        _systemctl("enable", "--quiet", unit)
        _systemctl("restart", unit)
    else:
        _systemctl("enable", "--quiet", "--now", unit)


def runs(unit: str) -> bool:
    return _ask("is-active", "--quiet", unit).returncode == 0


def stop(unit: str) -> None:
    """Stop a unit until it is started again; no error when there is none."""
    if (DIRECTORY / unit).exists():
        _systemctl("stop", unit)


def remove(unit: str) -> None:
    """Stop a unit and take it away; no error when there is none."""
    if not (DIRECTORY / unit).exists():
        return
    _systemctl("disable", "--quiet", "--now", unit)
    (DIRECTORY / unit).unlink()
    _systemctl("daemon-reload")
    _ask("reset-failed", unit)


def _systemctl(*words: str) -> None:
    done = _ask(*words)
    if done.returncode:
        raise Failed(
            f"`systemctl {' '.join(words)}` failed: {done.stderr.strip() or done.stdout.strip()}",
            hint=f"`journalctl -u {words[-1]}` tells more.",
        )


def _ask(*words: str) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(
            ["systemctl", "--no-ask-password", *words], capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired as error:
        raise Failed(f"`systemctl {' '.join(words)}` takes longer than {_TIMEOUT} s") from error
