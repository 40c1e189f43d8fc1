"""What a shell is told when somebody presses TAB."""

from __future__ import annotations

import pytest

from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager


async def completed(person: Terminal, words: str) -> list[str]:
    """What completes the last of the words, as bash asks for it."""
    said = await person.stack(
        _STACK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split(" ")) - 1)
    )
    assert (said.code, said.err) == (0, "")
    return [line.partition(",")[2] for line in said.out.split()]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
async def test_each_shell_has_its_script(person: Terminal, shell: str) -> None:
    said = await person.stack("completion", shell)
    assert said.code == 0 and "_STACK_COMPLETE" in said.out and shell in said.out


async def test_without_a_cluster_there_are_commands_and_options_but_no_names(person: Terminal) -> None:
    assert await completed(person, "stack hi") == ["history"]
    assert await completed(person, "stack rm --vol") == ["--volumes"]
    assert await completed(person, "stack rm sh") == []
    person.know("c", c={"socket": str(person.folder / "nobody.sock")})
    assert await completed(person, "stack rm sh") == []


@pytest.mark.etcd
async def test_names_come_from_the_cluster(person: Terminal, manager: RunningManager) -> None:
    person.write("compose.yml", "name: shop\nservices: {web: {image: x}, shed: {image: x}}")
    assert (await person.stack("deploy", "--detach")).code == 0
    assert await completed(person, "stack rm s") == ["shop"]
    assert await completed(person, "stack rm shop s") == [], "once is enough"
    assert await completed(person, "stack ps sh") == ["shed", "shop", "shop_shed", "shop_web"]
    assert await completed(person, "stack logs w") == ["web"]
