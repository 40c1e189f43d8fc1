"""Reaching into tasks from a terminal: exec, port-forward and cp, on any node, and what becomes of what is cut."""

from __future__ import annotations

import hashlib
import os
import signal
import socket
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

from tests.integration.conftest import STACK, Cluster, eventually
from tests.integration.terminal import at_terminal
from tests.patience import PATIENCE

pytestmark = [pytest.mark.lab, pytest.mark.root]

BIG = 100_000_000
SCRIPT = "#!/bin/sh\necho hello\n"


@pytest.fixture
def web(cluster: Cluster, probe: str) -> str:
    """A service with a task on each node."""
    cluster.deploy("reach.yml", probe)
    return f"{probe}_web"


@contextmanager
def started(
    cluster: Cluster,
    *words: str,
    stdin: int | IO[bytes] = subprocess.DEVNULL,
    stdout: int | IO[bytes] = subprocess.PIPE,
) -> Iterator[subprocess.Popen[bytes]]:
    """Run `stack WORDS` beside the test; at the end of the block it is killed if it is still there."""
    with subprocess.Popen(
        ["env", "--default-signal=INT,HUP", STACK, *words],
        env=cluster.environment, stdin=stdin, stdout=stdout, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        try:
            yield process
        finally:
            process.kill()


def heard(stream: IO[bytes], text: bytes) -> bytes:
    """Read lines until one has that text."""
    read = b""
    while text not in read:
        line = stream.readline()
        assert line, read
        read += line
    return read


def runs(cluster: Cluster, task: str, what: str) -> bool:
    return what in cluster.stack("exec", task, "ps", "-o", "args").stdout


def test_a_shell_at_a_terminal(cluster: Cluster, web: str) -> None:
    with at_terminal(cluster, "exec", "-it", f"{web}.2", "sh") as person:
        person.sees(b"# ")
        person.types(b"stty size\r")
        person.sees(b"31 101")
        person.resize(40, 120)
        os.kill(person.process.pid, signal.SIGWINCH)
        person.types(b"while ! stty size | grep -q '40 120'; do sleep 0.1; done; echo wi''der\r")
        person.sees(b"wider")
        person.types(b"sh -c 'echo be\"\"gun; exec sleep 1000'\r")  # Ctrl-C is the job's once it says that it runs
        person.sees(b"begun")
        person.types(b"\x03")
        person.sees(b"# ")
        assert person.settings() != person.before
        person.types(b"exit 42\r")
        assert person.process.wait(PATIENCE) == 42
        assert person.settings() == person.before


def test_codes_streams_and_settings(cluster: Cluster, web: str) -> None:
    task = f"{web}.1"
    done = cluster.stack("exec", "-e", "A=b", "-w", "/tmp", "-u", "1000", task, "sh", "-c",
                         "echo $A; pwd; id -u; echo bad >&2; exit 7", code=7)  # fmt: skip
    assert (done.stdout, done.stderr) == ("b\n/tmp\n1000\n", "bad\n")
    missing = cluster.stack("exec", task, "--", "no-such-command", code=127)
    assert (missing.stdout, "no-such-command" in missing.stderr) == ("", True)
    assert "permission denied" in cluster.stack("exec", task, "/etc", code=126).stderr
    assert f"{web} has no task 9" in cluster.stack("exec", f"{web}.9", "true", code=2).stderr
    cluster.stack("exec", "-d", task, "sleep", "4323")
    assert runs(cluster, task, "sleep 4323")
    assert "no-such-command" in cluster.stack("exec", "-d", task, "no-such-command", code=127).stderr


def test_much_is_piped_through_without_loss(cluster: Cluster, web: str, tmp_path: Path) -> None:
    file = tmp_path / "big"
    file.write_bytes(os.urandom(2**20) * (BIG // 2**20))
    with file.open("rb") as stream:
        with started(cluster, "exec", "-i", f"{web}.3", "cat", stdin=stream) as process:
            digest = hashlib.file_digest(process.stdout, "md5").hexdigest()  # type: ignore[arg-type]
            assert process.wait(PATIENCE) == 0
    assert digest == hashlib.md5(file.read_bytes()).hexdigest()


def test_a_signal_reaches_the_command(cluster: Cluster, web: str) -> None:
    with started(
        cluster, "exec", f"{web}.2", "sh", "-c", "trap 'exit 9' INT; echo ready; sleep 1000 & wait"
    ) as process:
        assert process.stdout is not None
        heard(process.stdout, b"ready")
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 9


def test_what_is_abandoned_ends(cluster: Cluster, web: str) -> None:
    task = f"{web}.2"
    with started(cluster, "exec", task, "sh", "-c", "echo ready; sleep 4321") as process:
        assert process.stdout is not None
        heard(process.stdout, b"ready")
        process.kill()
        process.wait()
    eventually(lambda: not runs(cluster, task, "sleep 4321"), "the command of a killed exec ends")


def test_a_manager_that_restarts_cuts_what_went_through_it(cluster: Cluster, web: str) -> None:
    task = f"{web}.2"
    with started(cluster, "exec", task, "sh", "-c", "echo ready; sleep 4322") as process:
        assert process.stdout is not None and process.stderr is not None
        heard(process.stdout, b"ready")
        cluster.lab.stop("n1", "manager")
        try:
            assert process.wait(PATIENCE) == 3
            assert b"was cut" in process.stderr.read()
        finally:
            cluster.lab.start("n1", "manager")
    eventually(lambda: cluster.stack("exec", task, "true", code=None).returncode == 0, "exec works again")
    eventually(lambda: not runs(cluster, task, "sleep 4322"), "the command of a cut exec ends")


def test_ports_for_many_connections_each_with_ends_of_its_own(cluster: Cluster, web: str) -> None:
    with started(cluster, "port-forward", f"{web}.3", ":80", ":9000", ":99") as process:
        assert process.stdout is not None and process.stderr is not None
        ports = [int(process.stdout.readline().split()[0].rpartition(b":")[2]) for _ in range(3)]

        def fetched(number: int) -> int:
            with socket.create_connection(("127.0.0.1", ports[0]), PATIENCE) as connection:
                connection.sendall(b"GET /zeros HTTP/1.0\r\n\r\n")
                with connection.makefile("rb") as answer:
                    return len(answer.read().partition(b"\r\n\r\n")[2])

        def echoed(number: int) -> bool:
            data = os.urandom(2_000_000)
            with socket.create_connection(("127.0.0.1", ports[1]), PATIENCE) as connection:

                def send() -> None:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)

                sending = threading.Thread(target=send)
                sending.start()
                with connection.makefile("rb") as answer:
                    back = answer.read()
                sending.join()
            return back == data

        with ThreadPoolExecutor(12) as pool:
            assert set(pool.map(fetched, range(24))) == {300_000}
            assert all(pool.map(echoed, range(6)))
        with socket.create_connection(("127.0.0.1", ports[2]), PATIENCE) as connection:
            assert connection.recv(1) == b""
        assert b"nothing listens there" in process.stderr.readline()


def test_files_out_and_in(cluster: Cluster, web: str, tmp_path: Path) -> None:
    task = f"{web}.2"
    tree = tmp_path / "tree"
    (tree / "below").mkdir(parents=True)
    (tree / "script").write_text(SCRIPT)
    (tree / "script").chmod(0o751)
    (tree / "below/open").write_bytes(os.urandom(1_000_000))
    (tree / "below/open").chmod(0o666)
    (tree / "link").symlink_to("script")
    cluster.stack("cp", str(tree), f"{task}:/tmp")
    assert cluster.stack("exec", task, "/tmp/tree/link").stdout == "hello\n"
    cluster.stack("cp", f"{task}:/tmp/tree", str(tmp_path / "back"))
    for file in ("script", "below/open"):
        assert (tmp_path / "back" / file).read_bytes() == (tree / file).read_bytes()
        assert (tmp_path / "back" / file).stat().st_mode == (tree / file).stat().st_mode
    assert (tmp_path / "back/link").readlink() == Path("script")
    cluster.stack("cp", "-L", f"{task}:/tmp/tree/link", str(tmp_path / "followed"))
    assert (tmp_path / "followed").read_text() == SCRIPT
    cluster.stack("cp", str(tree / "script"), f"{task}:/tmp/renamed")
    cluster.stack("cp", f"{tree}/.", f"{task}:/tmp/contents")
    assert cluster.stack("exec", task, "cat", "/tmp/renamed", "/tmp/contents/script").stdout == SCRIPT * 2
    archive = tmp_path / "archive.tar"
    with archive.open("wb") as stream:
        with started(cluster, "cp", f"{task}:/tmp/tree", "-", stdout=stream) as process:
            assert process.wait(PATIENCE) == 0
    with tarfile.open(archive) as read:
        assert "tree/below/open" in read.getnames()
    with archive.open("rb") as stream:
        with started(cluster, "cp", "-", f"{web}.3:/tmp", stdin=stream) as process:
            assert process.wait(PATIENCE) == 0
    assert cluster.stack("exec", f"{web}.3", "ls", "/tmp/tree").stdout.split() == ["below", "link", "script"]
    assert "there is no /none" in cluster.stack("cp", f"{task}:/none", str(tmp_path), code=2).stderr
    assert f"{web} has no task 9" in cluster.stack("cp", str(tree / "script"), f"{web}.9:/", code=2).stderr


# One-off tasks


def one_offs(cluster: Cluster, web: str) -> list[str]:
    stack = web.removesuffix("_web")
    return [str(task["name"]) for task in cluster.listing("ps", stack) if "-run-" in str(task["name"])]


def test_a_one_off_task_at_a_terminal_is_gone_afterwards(cluster: Cluster, web: str) -> None:
    with at_terminal(cluster, "run", "-it", "-e", "GREETING=hello", web, "sh") as person:
        person.sees(b"# ")
        person.types(b"echo $GREETING; wget -qO- http://web/; echo fetch''ed\r")
        person.sees(b"hello")
        person.sees(b"fetched")
        person.types(b"while ! stty size | grep -q '31 101'; do sleep 0.1; done; echo si''zed\r")
        person.sees(b"sized")
        person.types(b"sh -c 'echo be\"\"gun; exec sleep 1000'\r")  # Ctrl-C is the job's once it says that it runs
        person.sees(b"begun")
        person.types(b"\x03")
        person.sees(b"# ")
        [name] = one_offs(cluster, web)
        assert name in cluster.stack("ps").stdout
        assert "3/3" in cluster.stack("services", web.removesuffix("_web")).stdout, "it is no replica"
        names = cluster.stack("exec", f"{web}.1", "nslookup", "tasks.web", code=None).stdout
        assert names.count("Address") >= 3 and "-run-" not in names
        person.types(b"exit 42\r")
        assert person.process.wait(PATIENCE) == 42
        assert person.settings() == person.before
    eventually(lambda: not one_offs(cluster, web), "nothing of it stays")
    assert [one["service"] for one in cluster.listing("services", web.removesuffix("_web"))] == ["web"]


def test_a_one_off_task_in_a_pipe_has_its_streams_and_its_code(cluster: Cluster, web: str, tmp_path: Path) -> None:
    file = tmp_path / "input"
    file.write_bytes(os.urandom(3_000_000))
    with file.open("rb") as stream:
        with started(cluster, "run", "-T", web, "sh", "-c", "cat; echo bad >&2; exit 7", stdin=stream) as process:
            assert process.stdout is not None and process.stderr is not None
            assert process.stdout.read() == file.read_bytes()
            assert (process.stderr.read(), process.wait(PATIENCE)) == (b"bad\n", 7)
    missing = cluster.stack("run", web, "no-such-command", code=127)
    assert (missing.stdout, "no-such-command" in missing.stderr) == ("", True)
    eventually(lambda: not one_offs(cluster, web), "nothing of them stays")


@pytest.mark.parametrize("blow", [signal.SIGTERM, signal.SIGHUP, signal.SIGKILL])
def test_a_one_off_task_goes_with_whoever_runs_it(cluster: Cluster, web: str, blow: signal.Signals) -> None:
    with started(cluster, "run", web, "sh", "-c", "trap 'exit 9' TERM; echo ready; sleep 1000 & wait") as process:
        assert process.stdout is not None
        heard(process.stdout, b"ready")
        process.send_signal(blow)
        code = process.wait(PATIENCE)
        assert code == {signal.SIGTERM: 9, signal.SIGHUP: 129, signal.SIGKILL: -9}[blow]
    eventually(lambda: not one_offs(cluster, web), "it ends")


def test_a_one_off_task_by_itself_is_kept_for_its_log_until_it_is_removed(cluster: Cluster, web: str) -> None:
    name = cluster.stack("run", "-d", web, "echo", "by itself").stdout.strip()
    eventually(lambda: "complete" in cluster.stack("ps", "--filter", f"name={name}").stdout, "it ends")
    assert "by itself" in cluster.stack("logs", name).stdout
    assert cluster.stack("rm", name).stdout == f"removed {name}\n"
    eventually(lambda: not one_offs(cluster, web), "nothing of it stays")
    cluster.stack("run", "-d", "--rm", web, "true")
    eventually(lambda: not one_offs(cluster, web), "nothing of it stays")


def test_a_node_that_dies_is_named(cluster: Cluster, web: str) -> None:
    [task] = [t["name"] for t in cluster.tasks(web) if t["node"] == "n3"]
    with started(cluster, "exec", task, "sh", "-c", "echo ready; sleep 1000") as process:
        assert process.stdout is not None and process.stderr is not None
        heard(process.stdout, b"ready")
        cluster.lab.kill("n3")
        try:
            assert process.wait(PATIENCE) == 3
            assert b"node n3 is down" in process.stderr.read()
            said = cluster.stack("exec", task, "true", code=3).stderr
            assert "node n3 is down" in said
        finally:
            cluster.lab.start("n3")
    eventually(lambda: any(n["name"] == "n3" and n["status"] == "ready" for n in cluster.listing("node", "ls")), "back")
