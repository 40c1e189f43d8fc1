"""What a host must be, and what people type for addresses and names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from cli.host import checks, init
from cli.host.record import Home, Record
from cluster.errors import Conflict, Failed, Forbidden, UserError

GOOD = {"ServerVersion": "24.0.5", "OSType": "linux", "Swarm": {"LocalNodeState": "inactive"}}


@pytest.mark.parametrize(
    ("info", "kind", "message"),
    [
        ({"SecurityOptions": ["name=rootless"]}, Forbidden, "rootless"),
        ({"SecurityOptions": ["name=userns"]}, Forbidden, "remaps users"),
        ({"DockerRootDir": "/var/snap/docker/common/var-lib-docker"}, Forbidden, "snap"),
        ({"OperatingSystem": "Docker Desktop"}, Forbidden, "Docker Desktop"),
        ({"ServerVersion": "19.03.15"}, Forbidden, "too old"),
        ({"Swarm": {"LocalNodeState": "active"}}, Conflict, "member of a swarm"),
        ({"Swarm": {"LocalNodeState": "locked"}}, Conflict, "member of a swarm"),
    ],
)
def test_engines_that_are_refused(info: dict[str, Any], kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message):
        checks.engine(GOOD | info)


@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "24.0.5", "28.0.1", "library-import", "dev"])
def test_engines_that_will_do(version: str) -> None:
    checks.engine(GOOD | {"ServerVersion": version})


@pytest.mark.parametrize(
    ("typed", "url"),
    [
        ("192.0.2.1", "https://192.0.2.1:2377"),
        ("192.0.2.1:99", "https://192.0.2.1:99"),
        ("https://m1.example.org:2377/", "https://m1.example.org:2377"),
        ("fd00::1", "https://[fd00::1]:2377"),
        ("[fd00::1]:99", "https://[fd00::1]:99"),
        ("[fd00::1]", "https://[fd00::1]:2377"),
    ],
)
def test_addresses_of_managers(typed: str, url: str) -> None:
    assert checks.manager_url(typed) == url


@pytest.mark.parametrize("typed", ["", "m1:port", "m1:0", "m1:70000", "http://m1", "m1/../x", "m1,m2", "a b", "[::1"])
def test_what_is_no_address_of_a_manager(typed: str) -> None:
    with pytest.raises(UserError, match="no address of a manager"):
        checks.manager_url(typed)


@pytest.mark.parametrize("name", ["", "-n1", "n 1", "../n1", "n" * 64, "n1\n"])
def test_what_is_no_name(name: str) -> None:
    with pytest.raises(UserError, match="no name for a node"):
        checks.name(name)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("192.0.2.77", "no address of this host"),
        ("n1", "is no address"),
        ("127.0.0.1", "nobody else"),
        ("0.0.0.0", "nobody else"),
    ],
)
def test_addresses_of_this_host_that_will_not_do(given: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        checks.address(given, "192.0.2.1")


def test_the_address_of_this_host_is_that_of_the_way_out() -> None:
    assert checks.address(None, "127.0.0.1") == "127.0.0.1"
    assert checks.address(None, "::1") == "::1"
    assert checks.address(None, "no-host.invalid", "::1") == "::1", "where there is no way to the first"
    with pytest.raises(UserError, match="Give it with --advertise"):
        checks.address(None, "no-host.invalid")


@pytest.mark.parametrize(
    ("version", "refused"), [("3.5.0", True), ("3.5.2", True), ("3.3.27", True), ("3.5.3", False), ("3.4.23", False)]
)
def test_an_etcd_that_is_too_old_or_loses_data_is_not_started(
    version: str, refused: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "etcd").write_text(f"#!/bin/sh\necho 'etcd Version: {version}'\n")
    (tmp_path / "etcd").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    if refused:
        with pytest.raises(Failed, match=f"has version {version}"):
            checks.own_etcd()
    else:
        checks.own_etcd()


def test_a_host_without_etcd_is_told_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(Failed, match="no etcd on this host's PATH") as refused:
        checks.own_etcd()
    assert "--etcd" in refused.value.hint


def test_the_record_comes_back_as_it_was_and_is_roots_alone(tmp_path: Path) -> None:
    home = Home(tmp_path / "data")
    assert home.read() is None
    record = Record("n1", "10.0.0.1", "/run/docker.sock", ("https://10.0.0.1:2377",), etcd=("http://e",), complete=True)
    home.write(record)
    assert home.read() == record
    assert (tmp_path / "data/host.json").stat().st_mode & 0o777 == 0o600
    home.forget()
    home.forget()
    assert home.read() is None


def test_a_record_that_cannot_be_read_is_not_passed_over(tmp_path: Path) -> None:
    (tmp_path / "host.json").write_text("{")
    with pytest.raises(Failed, match="cannot be read"):
        Home(tmp_path).read()


@pytest.mark.parametrize(
    ("advertise", "etcd", "words"),
    [
        ("10.0.0.1", (), "--listen 0.0.0.0:2377 --advertise 10.0.0.1:2377 --etcd-port 23790"),
        (
            "fd00::1",
            ("http://a:1", "http://b:1"),
            "--listen [::]:2377 --advertise [fd00::1]:2377 --etcd http://a:1,http://b:1",
        ),
    ],
)
def test_the_managers_command(advertise: str, etcd: tuple[str, ...], words: str, tmp_path: Path) -> None:
    manager = f"[{advertise}]:2377" if ":" in advertise else f"{advertise}:2377"
    record = Record("n1", advertise, "/run/docker.sock", (f"https://{manager}",), manager, etcd)
    command = init.manager_command(Home(tmp_path), record, Path("/bin"))
    assert " ".join(command).endswith(words)
