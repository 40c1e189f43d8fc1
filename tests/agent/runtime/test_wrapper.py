"""The OCI runtime wrapper's contract: with configurations that engines wrote, and with real runtimes."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from agent.runtime import wrapper
from tests.patience import PATIENCE

pytestmark = pytest.mark.root

CONFIGS = Path(__file__).parent / "configs"
LINKS = Path("/run/stackyard/netns")
CONTAINER = "wrapper-test-" + "0" * 51


class Bundle:
    """A container's bundle, and a stand-in for the real runtime that writes down how it was called."""

    def __init__(self, path: Path) -> None:
        self.path, self.log, self.calls = path, path / "log.json", path / "calls"
        self.runtime = path / "runtime"
        self.runtime.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" >{self.calls}\n')
        self.runtime.chmod(0o755)

    def config(self, config: Any = None, text: str = "") -> str:
        text = text or json.dumps(config, separators=(",", ":"))
        (self.path / "config.json").write_text(text)
        return text

    def run(self, *args: str, first: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(wrapper()), *((first,) if first else ()), *args]
        env = {**os.environ, "STACKYARD_RUNTIME": str(self.runtime)}
        return subprocess.run(
            command, env=env, capture_output=True, text=True, timeout=PATIENCE, check=False, cwd=self.path
        )

    def create(self, container: str = CONTAINER) -> tuple[int, str]:
        """Create as containerd does; returns the exit code and what the log tells the engine."""
        done = self.run(
            "--root", "/run/docker/runtime-runc/moby", "--log", str(self.log), "--log-format", "json",
            "create", "--bundle", str(self.path), "--pid-file", str(self.path / "init.pid"), container,
        )  # fmt: skip
        return done.returncode, json.loads(self.log.read_text())["msg"] if self.log.exists() else done.stderr


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return Bundle(tmp_path)


@pytest.fixture
def namespace() -> Iterator[Path]:
    """A wired namespace for the container: a fresh one, with loopback up."""
    LINKS.mkdir(parents=True, exist_ok=True)
    name, link = "sy-wrapper-test", LINKS / CONTAINER
    subprocess.run(["ip", "netns", "del", name], stderr=subprocess.DEVNULL, check=False)
    link.unlink(missing_ok=True)
    subprocess.run(["ip", "netns", "add", name], check=True)
    try:
        subprocess.run(["ip", "-n", name, "link", "set", "lo", "up"], check=True)
        link.symlink_to(f"/run/netns/{name}")
        yield link
    finally:
        link.unlink(missing_ok=True)
        subprocess.run(["ip", "netns", "del", name], check=True)


def recorded(name: str) -> Any:
    return json.loads((CONFIGS / name).read_text())


@pytest.mark.parametrize("name", sorted(path.name for path in CONFIGS.iterdir()))
def test_a_recorded_configuration_gets_the_path_and_nothing_else(bundle: Bundle, namespace: Path, name: str) -> None:
    bundle.config(text=(CONFIGS / name).read_text())

    assert bundle.create() == (0, "")

    changed, expected = json.loads((bundle.path / "config.json").read_text()), recorded(name)
    entry = next(entry for entry in expected["linux"]["namespaces"] if entry["type"] == "network")
    entry["path"] = str(namespace)
    assert changed == expected
    assert bundle.calls.read_text().split()[:3] == ["--root", "/run/docker/runtime-runc/moby", "--log"]


@pytest.mark.parametrize(
    "namespaces",
    [
        pytest.param([{"type": "network"}], id="the only one"),
        pytest.param([{"type": "cgroup"}, {"type": "network"}, {"type": "mount"}], id="another order"),
        pytest.param([{"type": "pid", "path": "/proc/1/ns/pid"}, {"type": "network"}], id="beside one with a path"),
        pytest.param([{"type": "network"}, {"type": "user"}, {"type": "time"}], id="beside newer kinds"),
    ],
)
def test_other_namespaces_stay_as_they_are(bundle: Bundle, namespace: Path, namespaces: list[dict[str, str]]) -> None:
    config = recorded("engine-26.1.json")
    config["linux"]["namespaces"] = namespaces
    config["process"]["args"] = ["echo", 'namespaces":[{"type":"network"}]', "& \\1 |"]
    bundle.config(config)

    assert bundle.create() == (0, "")

    for entry in namespaces:
        if entry["type"] == "network":
            entry["path"] = str(namespace)
    assert json.loads((bundle.path / "config.json").read_text()) == config


@pytest.mark.parametrize(
    "namespaces",
    [
        pytest.param([{"type": "mount"}], id="none, as with the host's network"),
        pytest.param([{"type": "network", "path": "/proc/1/ns/net"}], id="one that is another container's"),
        pytest.param([{"type": "network"}, {"type": "network"}], id="two"),
    ],
)
def test_a_configuration_without_exactly_one_new_namespace_is_refused(
    bundle: Bundle, namespace: Path, namespaces: list[dict[str, str]]
) -> None:
    config = recorded("engine-20.10.json")
    config["linux"]["namespaces"] = namespaces
    bundle.config(config)

    code, said = bundle.create()

    assert code == 1 and "exactly one new network namespace" in said
    assert not bundle.calls.exists()


def test_a_configuration_laid_out_otherwise_is_refused_rather_than_guessed_at(bundle: Bundle, namespace: Path) -> None:
    bundle.config(text=json.dumps(recorded("engine-20.10.json"), indent=2))
    assert bundle.create()[0] == 1
    bundle.log.unlink()
    bundle.config(text='{\n"a":[{"type":"network"}]\n}\n')
    assert bundle.create()[0] == 1
    assert not bundle.calls.exists()


def test_a_container_that_the_agent_did_not_wire_is_refused(bundle: Bundle) -> None:
    before = bundle.config(recorded("engine-20.10.json"))

    code, said = bundle.create("f" * 64)

    assert code == 1 and "has wired no network" in said and "f" * 64 in said
    assert (bundle.path / "config.json").read_text() == before and not bundle.calls.exists()


def test_a_file_that_is_no_namespace_is_refused(bundle: Bundle, namespace: Path) -> None:
    bundle.config(recorded("engine-20.10.json"))
    namespace.unlink()
    namespace.write_text("")

    code, said = bundle.create()

    assert code == 1 and "is no namespace here" in said and "PrivateTmp" in said


@pytest.mark.parametrize("container", ["", "../etc", 'a"b', "a b", "a|b", "."])
def test_an_id_that_is_no_name_is_refused(bundle: Bundle, namespace: Path, container: str) -> None:
    bundle.config(recorded("engine-20.10.json"))
    assert bundle.create(container)[0] == 1
    assert not bundle.calls.exists()


def test_the_error_goes_to_stderr_when_there_is_no_log(bundle: Bundle) -> None:
    done = bundle.run("create", "--bundle", str(bundle.path), "f" * 64)
    assert done.returncode == 1 and "has wired no network" in done.stderr


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["--root", "create", "state", "abc"], id="create as an option's value"),
        pytest.param(["start", "create"], id="create as a container's id"),
        pytest.param(["--log", "/x", "exec", "--process", "p.json", "create", "with space"], id="exec"),
        pytest.param(["features"], id="features"),
        pytest.param(["--version"], id="version"),
        pytest.param([], id="nothing"),
    ],
)
def test_other_verbs_go_straight_on(bundle: Bundle, args: list[str]) -> None:
    assert bundle.run(*args).returncode == 0
    assert bundle.calls.read_text().splitlines() == (args or [""])


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["--log={log}", "create", "--bundle={bundle}", CONTAINER], id="values after ="),
        pytest.param(
            ["--systemd-cgroup", "create", "--no-pivot", "-b", "{bundle}", CONTAINER], id="options without value"
        ),
        pytest.param(["create", "--console-socket", "/c", "--bundle", "{bundle}", CONTAINER], id="a terminal"),
        pytest.param(["create", CONTAINER], id="in the bundle's own folder"),
    ],
)
def test_arguments_come_in_many_orders(bundle: Bundle, namespace: Path, args: list[str]) -> None:
    bundle.config(recorded("engine-20.10.json"))
    given = [arg.format(log=bundle.log, bundle=bundle.path) for arg in args]

    done = bundle.run(*given)

    assert (done.returncode, done.stderr) == (0, "")
    assert str(namespace) in (bundle.path / "config.json").read_text()
    assert bundle.calls.read_text().splitlines() == given


def test_it_stands_before_another_runtime_and_inside_of_another_wrapper(bundle: Bundle, namespace: Path) -> None:
    bundle.config(recorded("engine-20.10.json"))
    other = bundle.path / "other"
    other.write_text(f'#!/bin/sh\necho other >{bundle.path}/chosen\nexec {bundle.runtime} "$@"\n')
    other.chmod(0o755)

    done = bundle.run("create", "--bundle", str(bundle.path), CONTAINER, first=f"--stackyard-runtime={other}")

    assert done.returncode == 0 and (bundle.path / "chosen").exists()
    assert bundle.calls.read_text().splitlines() == ["create", "--bundle", str(bundle.path), CONTAINER]


@pytest.mark.parametrize("runtime", ["runc", "crun"])
def test_a_real_runtime_starts_the_container_in_the_namespace(tmp_path: Path, namespace: Path, runtime: str) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"no {runtime} here: apt-get install {runtime}")
    (tmp_path / "rootfs/bin").mkdir(parents=True)
    shutil.copy("/usr/bin/busybox", tmp_path / "rootfs/bin/busybox")
    subprocess.run(["runc", "spec"], cwd=tmp_path, check=True)
    config = json.loads((tmp_path / "config.json").read_text())
    config["process"] |= {"terminal": False, "args": ["/bin/busybox", "ip", "link", "show", "lo"]}
    (tmp_path / "config.json").write_text(json.dumps(config, separators=(",", ":")))
    # crun takes no cgroup v1 host that also has an empty v2 tree; in a mount namespace of its own it need not see that.
    script = f"""
        umount /sys/fs/cgroup/unified 2>/dev/null
        {wrapper()} --root {tmp_path}/root create --bundle {tmp_path} {CONTAINER} >{tmp_path}/out 2>&1 &&
        {runtime} --root {tmp_path}/root start {CONTAINER}
        for _ in $(seq 100); do
            {runtime} --root {tmp_path}/root state {CONTAINER} | grep -q stopped && break
            sleep 0.05
        done
        {runtime} --root {tmp_path}/root delete -f {CONTAINER}"""
    env = {**os.environ, "STACKYARD_RUNTIME": runtime}
    subprocess.run(["unshare", "--mount", "sh", "-c", script], env=env, timeout=PATIENCE, check=False)

    assert "<LOOPBACK,UP,LOWER_UP>" in (tmp_path / "out").read_text()
