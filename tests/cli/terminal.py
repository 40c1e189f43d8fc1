"""Runs the real `stack` command as a person's shell does, against a context of its own."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from cluster import pki
from tests.manager.managers import RunningManager
from tests.patience import PATIENCE


@dataclass(frozen=True, slots=True)
class Said:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return msgspec.json.decode(self.out)


class Terminal:
    """One person: a folder to stand in, a file of contexts, an environment."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.contexts = folder / "config/stackyard/contexts.json"
        self.environment = {
            "PATH": os.environ["PATH"],
            "HOME": str(folder),
            "XDG_CONFIG_HOME": str(folder / "config"),
            "PYTHONPATH": str(Path(__file__).parents[2]),
            "PYTHONWARNINGS": "error",
        }

    def know(self, current: str, **contexts: dict[str, Any]) -> None:
        self.contexts.parent.mkdir(parents=True, exist_ok=True)
        self.contexts.write_bytes(msgspec.json.encode({"current": current, "contexts": contexts}))

    async def know_manager(self, manager: RunningManager, *endpoints: str) -> None:
        """Make a certificate for this person, as `stack lab` does."""
        key = pki.new_key()
        answer = await manager.local().ask("POST", "/certificates", {"csr": pki.new_csr(key), "name": "ann"})
        certificate, key_file = manager.files("person", answer.body["certificate"], key)
        ca = manager.directory / "ca.pem"
        ca.write_text(manager.ca)
        where = list(endpoints) or [manager.base]
        self.know("c", c={"endpoints": where, "ca": str(ca), "cert": str(certificate), "key": str(key_file)})

    async def stack(self, *arguments: str, stdin: bytes = b"", **environment: str) -> Said:
        process = await self.start(*arguments, environment=environment)
        return await self.end(process, stdin)

    async def start(
        self,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        stdin: int = asyncio.subprocess.PIPE,
        stdout: int = asyncio.subprocess.PIPE,
        stderr: int = asyncio.subprocess.PIPE,
    ) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            "env",
            "--default-signal=INT",  # tests that run in the background were told to ignore it, and would pass that on
            sys.executable,
            "-c",
            "from cli.main import main; main()",
            *arguments,
            cwd=self.folder,
            env=self.environment | dict(environment or {}),
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
        )

    async def end(self, process: asyncio.subprocess.Process, stdin: bytes = b"") -> Said:
        try:
            async with asyncio.timeout(PATIENCE):
                out, err = await process.communicate(stdin if process.stdin is not None else None)
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        assert process.returncode is not None
        return Said(process.returncode, (out or b"").decode(), (err or b"").decode())

    async def interrupt(self, process: asyncio.subprocess.Process, when: Callable[[str], bool]) -> Said:
        """Press Ctrl-C once the command has said what `when` waits for."""
        assert process.stderr is not None
        heard = ""
        async with asyncio.timeout(PATIENCE):
            while not when(heard):
                line = await process.stderr.readline()
                assert line, heard
                heard += line.decode()
        process.send_signal(signal.SIGINT)
        said = await self.end(process)
        return Said(said.code, said.out, heard + said.err)

    def write(self, name: str, text: str) -> None:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
