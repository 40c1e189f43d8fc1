"""The images that the lab's registry has: base images, and what a Compose file says how to build."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cli.lab import builder, registry
from cli.lab.layout import Layout
from cluster.errors import ComposeError, Failed, Unavailable

if TYPE_CHECKING:
    from cluster.compose.convert import Build

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_SUITE = "bookworm"
_PATH = "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to make a base image of Debian's packages where Docker Hub is out of reach."""

    options: tuple[str, ...]
    command: str


BASE_IMAGES: Mapping[str, Recipe] = {
    "debian:bookworm-slim": Recipe(
        (
            "--variant=minbase",
            "--dpkgopt=force-unsafe-io",
            "--dpkgopt=path-exclude=/usr/share/man/*",
            "--dpkgopt=path-exclude=/usr/share/info/*",
            "--dpkgopt=path-exclude=/usr/share/locale/*",
            "--dpkgopt=path-exclude=/usr/share/doc/*",
            "--dpkgopt=path-include=/usr/share/doc/*/copyright",
            # no package may start its service while an image is built
            "--customize-hook=printf '#!/bin/sh\\nexit 101\\n' >\"$1\"/usr/sbin/policy-rc.d",
            '--customize-hook=chmod 755 "$1"/usr/sbin/policy-rc.d',
        ),
        "bash",
    ),
    # not busybox-static, whose wget crashes when it is given a name to resolve
    "busybox:1": Recipe(
        (
            "--variant=extract",
            "--include=busybox",
            '--extract-hook=chroot "$1" /bin/busybox --install -s /bin',
            '--extract-hook=mkdir -p "$1"/proc "$1"/sys "$1"/dev "$1"/root && mkdir -m 1777 -p "$1"/tmp',
            "--extract-hook=printf 'root:x:0:0:root:/root:/bin/sh\\n' >\"$1\"/etc/passwd",
            "--extract-hook=printf 'root:x:0:\\n' >\"$1\"/etc/group",
        ),
        "sh",
    ),
}


class Images:
    """Puts images into the lab's registry; the builder is started only if there is something to do."""

    def __init__(self, layout: Layout, say: Callable[[str], None]) -> None:
        self._layout = layout
        self._say = say

    def ensure_base(self) -> list[str]:
        """Pull or make the base images that are not there; gives those that were new."""
        missing = [name for name in BASE_IMAGES if self._digest(name) is None]
        if missing:
            with builder.running(self._layout, self._say) as engine:
                for name in missing:
                    self._base(engine, name)
        return missing

    def build(self, file: Path) -> list[str]:
        """Build and push what has changed of the Compose file's images; gives their names."""
        builds = read_builds(file)
        done = []
        with ExitStack() as stack:
            engine = None
            for build in builds:
                mark = self._layout.cache_dir / "built" / hashlib.sha256(build.image.encode()).hexdigest()[:32]
                print_of_inputs = self._fingerprint(build)
                known = mark.read_text() if mark.exists() else ""
                if known == f"{print_of_inputs} {self._digest(build.image)}":
                    continue
                self._say(f"building {build.image} from {build.context}")
                engine = engine or stack.enter_context(builder.running(self._layout, self._say))
                engine.build(build)
                self._push(engine, build.image)
                mark.parent.mkdir(parents=True, exist_ok=True)
                mark.write_text(f"{print_of_inputs} {self._digest(build.image)}")
                done.append(build.image)
        return done

    def _base(self, engine: builder.Builder, name: str) -> None:
        if hub_answers():
            self._say(f"pulling {name} from Docker Hub")
            try:
                engine.docker("pull", name)
            except Failed as error:
                self._say(f"Docker Hub does not give it ({error.message.splitlines()[-1]}), so it is made here")
                self._make(engine, name)
        else:
            self._make(engine, name)
        self._push(engine, name)

    def _make(self, engine: builder.Builder, name: str) -> None:
        self._say(f"making {name} of Debian's packages, as Docker Hub cannot be reached")
        recipe = BASE_IMAGES[name]
        archive = self._layout.cache_dir / "base.tar"
        try:
            done = subprocess.run(
                ["mmdebstrap", "--mode=root", "--quiet", *recipe.options, _SUITE, str(archive), *debian_sources()],
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                last = "\n".join(done.stderr.strip().splitlines()[-8:])
                raise Failed(f"mmdebstrap cannot make {name}:\n{last}")
            changes = ["--change", _PATH, "--change", f'CMD ["{recipe.command}"]']
            engine.docker("import", *changes, "-", name, stdin=archive)
        except FileNotFoundError as error:
            raise Unavailable(
                f"Docker Hub cannot be reached, and to make {name} here needs mmdebstrap, which is not on PATH",
                hint="On Debian: apt-get install --no-install-recommends mmdebstrap",
            ) from error
        finally:
            archive.unlink(missing_ok=True)

    def _push(self, engine: builder.Builder, name: str) -> None:
        engine.push(name, registry.parse_image(name, self._layout.registry).at(self._layout.registry))

    def _digest(self, name: str) -> str | None:
        return registry.digest(self._layout.registry, registry.parse_image(name, self._layout.registry))

    def _fingerprint(self, build: Build) -> str:
        """A digest of all that the image is made of: files, arguments, and the images that it builds on."""
        total = hashlib.sha256()
        for part in (
            str(build.dockerfile),
            build.target,
            *(f"{name}={value}" for name, value in sorted(build.args.items())),
        ):
            total.update(part.encode() + b"\0")
        for line in Path(build.dockerfile).read_text(errors="replace").splitlines():
            words = line.split()
            if len(words) > 1 and words[0].upper() == "FROM" and words[1].lower() != "scratch":
                name = next((word for word in words[1:] if not word.startswith("--")), "")
                known = self._digest(name) if name and "$" not in name else None
                total.update(f"{name} {known}\0".encode())
        for path in _files(Path(build.context)):
            mode = path.lstat().st_mode
            total.update(f"{path.relative_to(build.context)} {mode:o}\0".encode())
            if stat.S_ISLNK(mode):
                total.update(os.readlink(path).encode())
            elif stat.S_ISREG(mode):
                total.update(hashlib.sha256(path.read_bytes()).digest())
        return total.hexdigest()


def read_builds(file: Path) -> list[Build]:
    """The images that a Compose file says how to build, each once."""
    from cluster import compose

    def reader(path: str) -> bytes:
        return Path(path).read_bytes()

    folder = str(file.parent.resolve())
    project = compose.read([str(file)], os.environ, reader, directory=folder, profiles=["*"])
    builds = {found.image: found for found in project.builds()}
    for build in builds.values():
        if not Path(build.dockerfile).is_file():
            field = f"services.{build.service}.build"
            raise ComposeError(f"there is no {build.dockerfile}", file=str(file), field=field)
    return list(builds.values())


def hub_answers() -> bool:
    """Whether Docker Hub can be reached, found out within seconds."""
    from urllib.error import HTTPError, URLError
    from urllib.request import urlopen

    try:
        with urlopen("https://registry-1.docker.io/v2/", timeout=4):
            return True
    except HTTPError as error:
        return error.code == 401  # it wants a token: it is there
    except (URLError, TimeoutError, OSError):
        return False


def debian_sources() -> list[str]:
    """Lines for apt with the machine's own mirror, or Debian's where the machine runs something else."""
    listed = subprocess.run(
        ["apt-get", "indextargets", "--format", "$(REPO_URI) $(RELEASE) $(COMPONENT)", "Created-By: Packages"],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
    own = [line.split() for line in listed.splitlines() if line]
    wanted = (_SUITE, f"{_SUITE}-updates", f"{_SUITE}-security")
    found = [f"{uri} {suite} main" for uri, suite, component in own if suite in wanted and component == "main"]
    if not any(f" {_SUITE} " in line for line in found):
        found = [f"http://deb.debian.org/debian {_SUITE} main"]
    return [f"deb [signed-by={_KEYRING}] {line}" for line in dict.fromkeys(found)]


def _files(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() or path.is_file():
            yield path
