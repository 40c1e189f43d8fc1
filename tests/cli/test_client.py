"""The Python client, as README shows it."""

from __future__ import annotations

import asyncio
import re
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager

pytestmark = pytest.mark.etcd

APP = """
name: shop
services:
  web: {image: "app:1"}
"""


async def test_what_readme_shows_works(person: Terminal, manager: RunningManager) -> None:
    [program] = re.findall(r"```python\n(.*?)```", (Path(__file__).parents[2] / "README.md").read_text(), re.S)
    person.write("compose.yml", APP)
    async with obedient(manager):
        assert (await person.stack("deploy")).code == 0
        ran = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program,
            cwd=person.folder, env=person.environment, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = (text.decode() for text in await ran.communicate())
    assert (ran.returncode, err) == (0, "")
    lines = out.splitlines()
    assert lines[0].startswith("shop_web 1/1") and "{'web': '3/3'} " in lines
    assert any(line.startswith("task ") for line in lines)
