"""Managers on other hosts by ssh: a stand-in that runs the other host's words here, and OpenSSH itself on loopback."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.client.ssh import command
from cluster.errors import UserError
from tests.cli.terminal import Terminal
from tests.etcd_server import loopback_address
from tests.manager.api.obedient import obedient
from tests.manager.managers import RunningManager
from tests.patience import PATIENCE

FETCH = Path(__file__).parents[2] / "scripts" / "fetch-sshd"

STAND_IN = """#!/bin/sh
# takes what ssh takes, and has a shell run the last words, as sshd does
printf '%s\\n' "$*" >> "$0.log"
while [ "$1" != -- ]; do shift; done
shift 2
exec sh -c "$*"
"""
APP = "name: shop\nservices: {web: {image: nginx}}\n"


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ssh://root@m1", "-l root -- m1 stack dial-stdio"),
        ("ssh://Prod-Manager", "-- Prod-Manager stack dial-stdio"),
        ("ssh://root@192.0.2.1:2222/", "-p 2222 -l root -- 192.0.2.1 stack dial-stdio"),
        ("ssh://root@[2001:db8::1]:22", "-p 22 -l root -- 2001:db8::1 stack dial-stdio"),
        ("ssh://m1/run/other/m.sock", "-- m1 stack dial-stdio /run/other/m.sock"),
        ("ssh://m1/run/$(reboot)", "-- m1 stack dial-stdio '/run/$(reboot)'"),
    ],
)
def test_an_address_is_words_for_ssh(url: str, words: str) -> None:
    assert " ".join(command(url)) == f"ssh -T -o ConnectTimeout=10 {words}"


@pytest.mark.parametrize(
    "url",
    [
        "ssh://",
        "ssh://root@",
        "ssh://-oProxyCommand=reboot",
        "ssh://-lroot@m1",
        "ssh://ro%20ot@m1",
        "ssh://root:secret@m1",
        "ssh://m1:port",
        "ssh://m1;reboot",
        "ssh://m1/a?b",
    ],
)
def test_what_is_no_address_is_refused_and_no_option_comes_in_by_it(url: str) -> None:
    with pytest.raises(UserError):
        command(url)


@pytest.fixture
def stand_in(person: Terminal, tmp_path: Path) -> Path:
    """Programs `ssh` and, as on the other host, `stack`."""
    programs = tmp_path / "programs"
    programs.mkdir()
    (programs / "ssh").write_text(STAND_IN)
    (programs / "stack").write_text(f"#!/bin/sh\nexec {sys.executable} -c 'from cli.main import main; main()' \"$@\"\n")
    for program in programs.iterdir():
        program.chmod(0o755)
    person.environment["PATH"] = f"{programs}:{person.environment['PATH']}"
    return programs / "ssh.log"


def calls(log: Path) -> list[str]:
    return log.read_text().splitlines()


@pytest.mark.etcd
async def test_a_cluster_is_used_by_ssh(person: Terminal, manager: RunningManager, stand_in: Path) -> None:
    person.write("compose.yml", APP)
    address = f"ssh://root@m1{manager.settings.socket}"
    said = await person.stack("context", "add", "far", address)
    assert (said.code, said.out) == (0, "far is added\n")
    assert address in (await person.stack("context", "ls")).out
    async with obedient(manager):
        assert (await person.stack("deploy")).code == 0
        assert "shop_web.1" in (await person.stack("ps")).out
        assert (await person.stack("logs", "web")).out.count("hello") == 1
        assert "shop_web.1" in (await person.stack("ps", STACK_HOST=address)).out
        said = await person.stack("rm", "shop")
        assert (said.code, said.err.count("Exception")) == (0, 0)
    assert all("-l root -- m1 stack dial-stdio" in call for call in calls(stand_in))


@pytest.mark.parametrize(
    ("program", "told"),
    [
        ("echo 'Host key verification failed.' >&2; exit 255", "Host key verification failed."),
        ("echo 'sh: stack: not found' >&2; exit 127", "sh: stack: not found"),
        ("exit 255", "ssh ended with code 255"),
    ],
)
async def test_what_ssh_says_is_told_at_once(person: Terminal, stand_in: Path, program: str, told: str) -> None:
    (stand_in.parent / "ssh").write_text(f"#!/bin/sh\necho x >> $0.log; {program}\n")
    said = await person.stack("ls", STACK_HOST="ssh://root@m1")
    assert (said.code, said.out) == (3, "")
    hint = "Try `ssh -T -o ConnectTimeout=10 -l root -- m1 stack version`."
    assert said.err == f"error: ssh://root@m1 cannot be reached: {told}\n{hint}\n"
    assert calls(stand_in) == ["x"], "whoever is asked for a password is asked once"


async def test_no_manager_there_is_told_with_its_socket(person: Terminal, stand_in: Path) -> None:
    said = await person.stack("ls", STACK_HOST="ssh://root@m1/nowhere/m.sock")
    assert said.code == 3
    assert "no manager answers" in said.err and "/nowhere/m.sock" in said.err


async def test_no_ssh_is_told(person: Terminal, tmp_path: Path) -> None:
    (tmp_path / "env").symlink_to("/usr/bin/env")  # with which the person's terminal starts programs
    said = await person.stack("ls", STACK_HOST="ssh://root@m1", PATH=str(tmp_path))
    assert (said.code, said.err) == (2, "error: there is no program `ssh` here\nInstall OpenSSH's client.\n")


@pytest.mark.etcd
async def test_ctrl_c_is_for_the_command_and_not_for_ssh(
    person: Terminal, manager: RunningManager, stand_in: Path
) -> None:
    """At a terminal both get it: then ssh would go before what it carries has been said."""
    (stand_in.parent / "ssh").write_text(STAND_IN.replace("exec sh -c", "kill -INT $$; exec sh -c"))
    said = await person.stack("ls", STACK_HOST=f"ssh://m1{manager.settings.socket}")
    assert (said.code, said.err) == (0, "")


# OpenSSH itself


@pytest.fixture
def sshd(person: Terminal, stand_in: Path, tmp_path: Path) -> Iterator[str]:
    """A server on loopback that lets this test in; gives its address."""
    openssh = Path(subprocess.run([FETCH], check=True, capture_output=True, text=True).stdout.strip())
    ssh, keygen = openssh / "usr/bin/ssh", openssh / "usr/bin/ssh-keygen"
    folder = tmp_path / "ssh"
    folder.mkdir(mode=0o700)
    for name in ("host", "own"):
        subprocess.run([keygen, "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
    host = loopback_address()
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
    there = f"{stand_in.parent}:{os.environ['PATH']}"
    (folder / "sshd").write_text(
        f"ListenAddress {host}\nPort {port}\nHostKey {folder}/host\nAuthorizedKeysFile {folder}/own.pub\n"
        f"StrictModes no\nUsePAM no\nPidFile none\nPermitRootLogin yes\n"
        f"SetEnv PATH={there} PYTHONPATH={person.environment['PYTHONPATH']}\n"
    )
    (folder / "known").write_text(f"[{host}]:{port} {(folder / 'host.pub').read_text()}")
    (folder / "ssh").write_text(f"IdentityFile {folder}/own\nUserKnownHostsFile {folder}/known\nBatchMode yes\n")
    (stand_in.parent / "ssh").write_text(f'#!/bin/sh\nexec {ssh} -F {folder}/ssh "$@"\n')
    Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    # the user that sshd wants on its host is there for it alone, as it is not installed
    (folder / "passwd").write_text(
        f"{Path('/etc/passwd').read_text()}sshd:x:65530:65534::/run/sshd:/usr/sbin/nologin\n"
    )
    alone = ["unshare", "--mount", "sh", "-c", 'mount --bind "$0" /etc/passwd && exec "$@"', str(folder / "passwd")]
    libraries = ":".join(map(str, (openssh / "usr/lib").glob("*-linux-gnu*")))
    with (
        (folder / "log").open("w") as log,
        subprocess.Popen(
            [*alone, str(openssh / "usr/sbin/sshd"), "-D", "-e", "-f", str(folder / "sshd")],
            stderr=log,
            env=os.environ | {"LD_LIBRARY_PATH": libraries},
        ) as server,
    ):
        try:
            end = time.monotonic() + PATIENCE
            while "Server listening" not in (folder / "log").read_text():
                assert server.poll() is None and time.monotonic() < end, (folder / "log").read_text()
                time.sleep(0.05)
            yield f"ssh://root@{host}:{port}"
        finally:
            server.send_signal(signal.SIGTERM)


@pytest.mark.root
@pytest.mark.etcd
async def test_openssh_carries_all_of_it(person: Terminal, manager: RunningManager, sshd: str) -> None:
    person.write("compose.yml", APP)
    person.environment["STACK_HOST"] = f"{sshd}{manager.settings.socket}"
    async with obedient(manager):
        said = await person.stack("deploy")
        assert said.code == 0, said.err
        assert "shop_web.1" in (await person.stack("ps")).out
        assert (await person.stack("logs", "web")).out.count("hello") == 1
    said = await person.stack("ls", STACK_HOST=sshd.replace("root@", "nobody-here@"))
    assert said.code == 3 and "Permission denied" in said.err
