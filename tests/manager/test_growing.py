"""Managers as programs, each with an etcd of its own: one becomes three, one is lost, another takes its place."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from cluster import pki
from cluster.membership import MemberReply
from manager.etcd import Member, remains_able
from tests.etcd_server import require_binary
from tests.manager.test_main import Program, own_etcd
from tests.patience import PATIENCE

pytestmark = [pytest.mark.etcd, pytest.mark.timeout(900)]


def member(ident: int, *, learner: bool = False) -> Member:
    return Member(ident, f"m{ident}", (), (), learner)


@pytest.mark.parametrize(
    ("voters", "alive", "without", "able"),
    [
        pytest.param([1, 2, 3], [1, 2, 3], 3, True, id="three become two"),
        pytest.param([1, 2, 3], [1, 2], 3, True, id="a dead one goes"),
        pytest.param([1, 2, 3], [1, 2], 2, False, id="a living one would leave one of two"),
        pytest.param([1, 2], [1, 2], 2, True, id="two become one"),
        pytest.param([1, 2], [2], 2, False, id="the only one that lives"),
        pytest.param([1], [1], 1, False, id="the only one"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], 5, True, id="one of two dead ones"),
        pytest.param([1, 2, 3, 4, 5], [1, 2, 3], 3, False, id="with two dead ones, none that lives"),
    ],
)
def test_a_member_goes_only_if_the_others_can_decide(
    voters: list[int], alive: list[int], without: int, able: bool
) -> None:
    members = [*map(member, voters), member(99, learner=True)]
    assert remains_able(members, [*alive, 99], without) is able


class Manager(Program):
    """One that joins another's cluster as its host would with `stack join --manager`."""

    def __init__(self, directory: Path, name: str) -> None:
        directory.mkdir()
        super().__init__(directory)
        self.name = name

    def begin(self) -> None:
        self.start(f"--name={self.name}")

    def local(self, method: str, path: str, body: Any = None) -> Any:
        connection = _Local(str(self.socket))
        return _answer(connection, method, path, body)

    def join(self, by: Manager) -> None:
        """Come into the cluster of another; the program is to be started then."""
        tls = self.enrol(by)
        wanted = {"peer": f"https://{self.address}:{self.etcd_port + 1}"}
        member = _answer(by.remote(tls), "POST", "/v1/self/manager", wanted)
        etcd = self.data / "etcd"
        etcd.mkdir(parents=True)
        (etcd / "join.json").write_bytes(msgspec.json.encode(msgspec.convert(member, MemberReply)))

    def enrol(self, by: Manager) -> ssl.SSLContext:
        """Become a node, as each manager's host is one."""
        key = pki.new_key()
        token = by.local("GET", "/v1/join-tokens")["manager"]
        request = {"token": token, "csr": pki.new_csr(key), "name": self.name, "role": "manager"}
        reply = _answer(by.remote(), "POST", "/v1/join", request)
        files = self.data.parent / "node.pem", self.data.parent / "node-key.pem"
        files[0].write_text(reply["certificate"])
        files[1].write_text(key)
        return pki.client_context(reply["ca"], str(files[0]), str(files[1]))

    def remote(self, tls: ssl.SSLContext | None = None) -> http.client.HTTPSConnection:
        return http.client.HTTPSConnection(
            self.address, 2377, timeout=PATIENCE, context=tls or pki.unverified_context()
        )

    def asked(self, method: str, path: str, body: Any = None) -> str:
        """Ask until it is present, as `stack` does; gives what it refuses with, "" where it does as it is told."""

        def answered() -> list[str]:
            try:
                self.local(method, path, body)
            except Refusal as refusal:
                return [] if str(refusal).startswith("503") else [str(refusal)]
            return [""]

        [said] = eventually(answered, self)
        return str(said)

    def writes(self, name: str) -> bool:
        """Whether a write is accepted: a config is made."""
        try:
            self.local("PUT", f"/v1/configs/{name}", {"data": "aGVsbG8="})
        except (OSError, http.client.HTTPException, Refusal):
            return False
        return True

    def kill(self) -> None:
        """The whole host loses power: the manager and its etcd in one moment."""
        etcd = own_etcd(self)
        assert self.process is not None
        for pid in (*etcd, self.process.pid):
            os.kill(pid, signal.SIGKILL)
        self.process.wait()


class Refusal(AssertionError):
    """The manager answered with an error."""


class _Local(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=PATIENCE)
        self.path = path

    def connect(self) -> None:
        import socket

        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(self.path)


def _answer(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> Any:
    try:
        data = None if body is None else json.dumps(body)
        connection.request(method, path, data, {"Content-Type": "application/json"})
        response = connection.getresponse()
        text = response.read()
        if response.status >= 400:
            raise Refusal(f"{response.status}: {text.decode()}")
        return json.loads(text) if text else None
    finally:
        connection.close()


def eventually(true: Callable[[], Any], manager: Manager) -> Any:
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            if found := true():
                return found
        except (OSError, http.client.HTTPException, Refusal):
            pass
        assert time.monotonic() < deadline, manager.said()
        time.sleep(0.1)  # a program tells in no other way


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[[str], Manager]]:
    require_binary("3.4")
    with ExitStack() as ending:

        def made(name: str) -> Manager:
            manager = Manager(tmp_path / name, name)

            def end() -> None:
                if manager.process is not None and manager.process.poll() is None:
                    manager.process.kill()
                    manager.process.wait()

            ending.callback(end)
            return manager

        yield made


def names(manager: Manager) -> set[str]:
    return {one["name"] for one in manager.local("GET", "/v1/cluster")["managers"]}


def configs(manager: Manager) -> set[str]:
    return {one["name"] for one in manager.local("GET", "/v1/configs")}


def test_one_manager_becomes_three_loses_one_and_gets_another(make: Callable[[str], Manager]) -> None:
    first, second, third, fourth = (make(name) for name in ("m1", "m2", "m3", "m4"))
    first.begin()
    eventually(lambda: names(first) == {"m1"}, first)
    first.enrol(first)
    assert first.writes("one")
    for newcomer in (second, third):
        newcomer.join(first)
        newcomer.begin()
        eventually(lambda one=newcomer: one.name in names(first), newcomer)  # type: ignore[misc]
        assert not (newcomer.data / "etcd" / "join.json").exists()
        eventually(lambda one=newcomer: first.writes(f"with-{one.name}"), first)  # type: ignore[misc]
    eventually(lambda: names(third) == {"m1", "m2", "m3"}, third)
    for newcomer in (second, third):  # or what is in secrets would be lost with the one that made the keys
        eventually((newcomer.data / "contents.key").exists, newcomer)

    # the first one, which began it all, goes down with its etcd
    first.kill()
    eventually(lambda: second.writes("without-the-first"), second)
    eventually(lambda: configs(third) >= {"one", "with-m2", "without-the-first"}, third)

    # of the two that are left none may go, and none comes before the dead one is taken out
    assert "could not decide" in second.asked("DELETE", "/v1/nodes/m3?force=true")
    with pytest.raises(Refusal, match="the etcd of m1 does not answer"):
        fourth.join(second)
    assert second.asked("DELETE", "/v1/nodes/m1?force=true") == ""
    fourth.join(second)
    fourth.begin()
    eventually(lambda: "m4" in names(second), fourth)
    eventually(lambda: fourth.writes("with-m4"), fourth)

    # a manager that is taken out ends by itself, and the others go on
    assert second.asked("PATCH", "/v1/nodes/m3", {"role": "worker"}) == ""
    assert third.process is not None
    assert third.process.wait(PATIENCE) == 1
    assert "taken out of the cluster" in third.said()
    eventually(lambda: fourth.writes("without-m3"), fourth)
