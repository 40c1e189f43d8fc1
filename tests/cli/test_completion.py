"""What a shell is told when somebody presses TAB."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.terminal import Terminal
from tests.manager.api.obedient import obedient
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
    await manager.local().ask("PUT", "/secrets/key", {"data": "eA=="})
    async with obedient(manager):
        for words, known in (
            ("stack exec shop_w", ["shop_web", "shop_web.1"]),
            ("stack cp shop_w", ["shop_web:", "shop_web.1:"]),
            ("stack node drain ", ["n1"]),
            ("stack ps --node ", ["n1"]),
            ("stack inspect n", ["n1"]),
            ("stack inspect shop_def", ["shop_default"]),
            ("stack network inspect ", ["shop_default"]),
            ("stack secret inspect ", ["key"]),
            ("stack config rm ", []),
            ("stack deploy sh", ["shop"]),
        ):
            assert await completed(person, words) == known, words


async def test_what_stands_on_this_machine_needs_no_cluster(person: Terminal) -> None:
    person.know("one", one={"socket": "/nowhere"}, other={"socket": "/nowhere"})
    assert await completed(person, "stack --context o") == ["one", "other"]
    assert await completed(person, "stack context use ot") == ["other"]
    for words in ("stack deploy -f ap", "stack cp ap", "stack secret create key ap"):
        said = await person.stack(
            _STACK_COMPLETE="bash_complete", COMP_WORDS=words, COMP_CWORD=str(len(words.split()) - 1)
        )
        assert said.out == "file,ap\n", words


SHELLS = {
    "bash": """
        eval "$(stack completion bash)"
        COMP_WORDS=(stack context use ot); COMP_CWORD=3; _stack_completion stack; echo "${COMPREPLY[@]}"
    """,
    "fish": "stack completion fish | source; complete -C 'stack context use ot'",
}


@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes_with_it(person: Terminal, shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"needs {shell}")
    person.know("one", one={"socket": "/nowhere"}, other={"socket": "/nowhere"})
    stack = Path(sys.prefix, "bin")
    environment = person.environment | {"PATH": f"{stack}:{person.environment['PATH']}"}
    done = subprocess.run([shell, "-c", SHELLS[shell]], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["other"], done.stderr
