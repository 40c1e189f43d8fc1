"""`stack ca`, against a real manager."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from cluster import pki
from cluster.model.cluster import TrustPhase
from tests.cli.terminal import Terminal
from tests.manager.managers import RunningManager, until

pytestmark = pytest.mark.etcd


async def test_a_context_takes_the_new_root_over_and_a_certificate_of_it(
    person: Terminal, manager: RunningManager, tmp_path: Path
) -> None:
    await until(lambda: manager.core.presence.leading)
    files = manager.directory / "ca.pem", manager.directory / "person.pem"
    held, old = files[1].read_text(), manager.ca
    by_token = tmp_path / "by-token.pem"
    by_token.write_text(old)
    (tmp_path / "token").write_text((await person.stack("user", "create", "robot", "--role", "admin")).out)
    known = msgspec.json.decode(person.contexts.read_bytes())["contexts"]
    person.know("c", **known, t={"endpoints": [manager.base], "ca": str(by_token),
                                          "token": str(tmp_path / "token")})  # fmt: skip
    kept = tuple(file.read_text() for file in files)
    rotated = await person.stack("ca", "rotate")
    assert rotated.code == 0 and "One root is trusted" in rotated.out, rotated
    assert manager.ca != old
    await until(lambda: manager.core.authority.trust.phase is TrustPhase.SETTLED)
    for _ in range(2):
        assert (await person.stack("ls")).code == 0
        assert (await person.stack("--context", "t", "ls")).code == 0
    assert files[0].read_text() == by_token.read_text() == manager.ca
    assert files[1].read_text() != held and pki.signer(files[1].read_text(), [manager.ca])
    [credential] = manager.core.state.users["ann"].credentials
    assert credential.signer == manager.core.authority.digest, "the same credential, of the new root"

    for file, text in zip(files, kept, strict=True):
        file.write_text(text)
    refused = await person.stack("ls")
    assert refused.code != 0 and "the cluster's CA was rotated" in refused.err and "stack init" in refused.err


async def test_a_rotation_is_shown_waits_for_a_certificate_and_is_finished_by_force(
    person: Terminal, manager: RunningManager
) -> None:
    await until(lambda: manager.core.presence.leading)
    person.environment["STACK_HOST"] = str(manager.settings.socket)
    before = await person.stack("ca")
    old, token = manager.core.authority.digest, (await person.stack("token", "show")).out
    assert old in before.out and "no rotation is under way" in before.out
    assert (await person.stack("ca", "show")).out == manager.ca

    waits = await person.stack("ca", "rotate")
    assert waits.code == 1 and "1 of 1 managers" in waits.out
    assert "the old root stays trusted" in waits.err and "it is of the old root" in waits.err
    shown = (await person.stack("ca", "--format", "json")).json
    assert (shown["phase"], len(shown["roots"]), shown["managers"]) == ("renewing", 2, 1)
    assert "certificate" in (await person.stack("ca")).out

    refused = await person.stack("ca", "finish")
    assert refused.code == 2 and "some still need the old root" in refused.err and "--force" in refused.err
    finished = await person.stack("ca", "finish", "--force")
    assert finished.code == 0 and "no rotation is under way" in finished.out
    await until(lambda: manager.core.authority.trust.phase is TrustPhase.SETTLED)
    after = await person.stack("ca")
    assert old not in after.out and manager.core.authority.digest in after.out
    assert (await person.stack("token", "show")).out != token
    assert "One root is trusted" in (await person.stack("ca", "finish")).out


async def test_a_rotation_that_nobody_holds_up_comes_to_its_end(person: Terminal, manager: RunningManager) -> None:
    await until(lambda: manager.core.presence.leading)
    person.environment["STACK_HOST"] = str(manager.settings.socket)
    for user in tuple(manager.core.state.users):
        assert (await person.stack("user", "rm", user)).code == 0
    done = await person.stack("ca", "rotate")
    assert done.code == 0 and "is made known" in done.out and "One root is trusted" in done.out, done
    assert "Join tokens have changed" in done.out
    begun = await person.stack("ca", "rotate", "--detach")
    assert begun.code == 0 and "goes on by itself" in begun.out
