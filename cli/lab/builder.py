"""An engine in the machine's own network that pulls, builds and pushes images, and is ended when it is done.

The nodes' engines cannot do it: the lab's network leads nowhere. One builder at a time works for all labs of the
machine, as they share its data.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from cli.lab import probes, processes
from cli.lab.host import Host, remove_cgroups
from cli.lab.layout import Layout
from cluster.errors import Failed, Unavailable

if TYPE_CHECKING:
    from cluster.compose.convert import Build

NAME = "builder"
_PROXY = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


class Builder:
    """A running builder; `docker` runs a command of Docker's client on it."""

    def __init__(self, socket: Path, log: Path) -> None:
        self._socket = socket
        self._log = log

    def docker(self, *words: str, stdin: Path | None = None) -> str:
        """Run `docker WORDS`; what it says goes into the log, and is told when it fails."""
        environment = os.environ | {"DOCKER_HOST": f"unix://{self._socket}", "DOCKER_BUILDKIT": "0"}
        environment.pop("DOCKER_CONTEXT", None)
        with (stdin or Path(os.devnull)).open("rb") as source, self._log.open("a") as log:
            log.write(f"$ docker {' '.join(words)}\n")
            log.flush()
            done = subprocess.run(
                ["docker", *words], stdin=source, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
            )
            text = done.stdout.decode(errors="replace")
            log.write(text)
        if done.returncode:
            last = "\n".join(text.strip().splitlines()[-15:])
            raise Failed(f"`docker {' '.join(words)}` failed:\n{last}", hint=f"The whole log is {self._log}.")
        return text

    def build(self, build: Build) -> None:
        """Build with the machine's network in RUN, and the machine's proxies if it has some."""
        given = {name: os.environ[name] for name in _PROXY if name in os.environ} | build.args
        words = [word for name, value in given.items() for word in ("--build-arg", f"{name}={value}")]
        words += ["--target", build.target] if build.target else []
        words += ["--file", build.dockerfile, "--tag", build.image]
        self.docker("build", "--network", "host", *words, build.context)

    def push(self, name: str, target: str) -> None:
        self.docker("tag", name, target)
        self.docker("push", target)


@contextmanager
def running(layout: Layout, say: Callable[[str], None]) -> Iterator[Builder]:
    """Have a builder for the time of the block. What a killed command left of an earlier one is ended first."""
    layout.cache_dir.mkdir(parents=True, exist_ok=True)
    with (layout.cache_dir / "builder.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another build to end")
            fcntl.flock(lock, fcntl.LOCK_EX)
        for left in {process.lab for process in processes.census(None, NAME)}:
            end(Layout(left))
        host = _host(layout)
        try:
            yield _start(layout, host)
        finally:
            end(layout)


def end(layout: Layout) -> None:
    """End the lab's builder, if there is one, and clean up after it."""
    _host(layout).end()
    remove_cgroups(layout.namespace(NAME))


def _host(layout: Layout) -> Host:
    return Host(
        lab=layout.name,
        name=NAME,
        run_dir=layout.run_dir / NAME,
        data_dir=layout.data_dir / NAME,
        hosts_file=Path("/etc/hosts"),
        network=None,
    )


def _start(layout: Layout, host: Host) -> Builder:
    cgroup = layout.namespace(NAME)
    host.boot(cgroup)
    config = host.data_dir / "daemon.json"
    config.write_text(json.dumps(_engine_config(layout, cgroup), indent=2) + "\n")
    socket = host.run_dir / "docker.sock"
    proxies = {name: os.environ[name] for name in _PROXY if name in os.environ}
    host.start("engine", ("dockerd", "--config-file", str(config)), proxies)
    log = host.log_file("engine")
    if not processes.wait_until(lambda: probes.http_ok("http://engine/_ping", socket), 120, 0.03):
        raise Unavailable(f"the builder's engine does not answer: {processes.tail(log)}", hint=f"The log is {log}.")
    return Builder(socket, host.log_file("docker"))


def _engine_config(layout: Layout, cgroup: str) -> Mapping[str, str | bool | Sequence[str]]:
    return {
        "hosts": ["unix:///run/docker.sock"],
        "data-root": str(layout.cache_dir / NAME),
        "exec-root": "/run/docker",
        "pidfile": "/run/docker.pid",
        "cgroup-parent": f"/{cgroup}",
        "exec-opts": ["native.cgroupdriver=cgroupfs"],
        # it shares the machine's network, where it must not change a thing
        "bridge": "none",
        "iptables": False,
        "ip6tables": False,
        "ip-forward": False,
        "registry-mirrors": [f"http://{layout.registry}"],
        "insecure-registries": [layout.registry],
        "log-level": "warn",
    }
