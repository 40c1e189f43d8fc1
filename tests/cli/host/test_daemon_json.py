"""The engine's configuration file as people have it, and as nobody should."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.host import daemon_json
from cluster.errors import UserError

WRAPPER = "/var/lib/stackyard/stackyard-runtime"
NVIDIA = {"path": "/usr/bin/nvidia-container-runtime", "runtimeArgs": ["--debug"]}


def edited(text: str, default: str = "runc") -> str:
    settings = daemon_json.read(text.encode(), "daemon.json")
    return daemon_json.written(daemon_json.with_runtimes(settings, WRAPPER, default), text.encode()).decode()


@pytest.mark.parametrize("text", ["", "\n", "{}", "{\n}\n"])
def test_an_empty_file_gets_the_runtime_and_nothing_else(text: str) -> None:
    assert json.loads(edited(text)) == {"runtimes": {"stackyard": {"path": WRAPPER}}}


def test_every_other_key_stays_as_it_is_and_in_its_order() -> None:
    text = '{\n\t"log-driver": "journald",\n\t"hosts": ["unix:///run/docker.sock"],\n\t"x": [1, 1.5, null, "é"]\n}\n'
    made = edited(text)
    assert made.startswith('{\n\t"log-driver": "journald",\n\t"hosts": [') and "é" in made
    runtimes = {"runtimes": {"stackyard": {"path": WRAPPER}}}
    assert list(json.loads(made).items()) == list((json.loads(text) | runtimes).items())


def test_a_file_in_one_line_stays_in_one_line() -> None:
    assert edited('{"debug": true}').count("\n") == 1


def test_the_default_runtime_and_each_other_one_get_ours_in_front() -> None:
    text = json.dumps({"default-runtime": "nvidia", "runtimes": {"nvidia": NVIDIA, "crun": {"path": "/usr/bin/crun"}}})
    made = json.loads(edited(text, default="nvidia"))["runtimes"]
    nvidia = {"path": WRAPPER, "runtimeArgs": ["--stackyard-runtime=/usr/bin/nvidia-container-runtime", "--debug"]}
    assert made == {
        "nvidia": NVIDIA,
        "crun": {"path": "/usr/bin/crun"},
        "stackyard": nvidia,
        "stackyard-nvidia": nvidia,
        "stackyard-crun": {"path": WRAPPER, "runtimeArgs": ["--stackyard-runtime=/usr/bin/crun"]},
    }


def test_a_runtime_that_is_no_oci_program_has_nothing_put_in_front() -> None:
    text = json.dumps({"runtimes": {"gvisor": {"runtimeType": "io.containerd.runsc.v1"}}})
    assert set(json.loads(edited(text))["runtimes"]) == {"gvisor", "stackyard"}
    with pytest.raises(UserError, match="default runtime 'gvisor'"):
        edited(text, default="gvisor")


def test_runtimes_that_a_reload_would_lose_are_named() -> None:
    known = ["runc", "io.containerd.runc.v2", "stackyard", "stackyard-crun", "crun", "nvidia", "kata"]
    assert daemon_json.missing({"runtimes": {"crun": {"path": "/usr/bin/crun"}}}, known) == ["kata", "nvidia"]
    assert daemon_json.missing({}, ["runc"]) == []


def test_what_an_earlier_installation_left_is_replaced() -> None:
    old = {"runtimes": {"stackyard": {"path": "/old"}, "stackyard-gone": {"path": "/old"}}}
    assert json.loads(edited(json.dumps(old)))["runtimes"] == {"stackyard": {"path": WRAPPER}}


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b'{\n  "debug": true,\n}\n', "daemon.json:3: "),
        (b'{"debug": true', "daemon.json:1: "),
        (b'{"a": 1} {"b": 2}', "daemon.json:1: Extra data"),
        (b'\n["debug"]', "daemon.json:1: this is no object"),
        (b'"debug"', "no object"),
        (
            b'{\n "debug": true,\n "log-level": "warn",\n "debug": false}',
            "daemon.json:4: the key 'debug' is there twice",
        ),
        (b'{"a": {"b": 1,\n"b": 2}}', "daemon.json:2: the key 'b' is there twice"),
        (b'{\n"a": "\xff"}', "daemon.json:2: this is not UTF-8"),
        (b'\xef\xbb\xbf{"debug": true}', "daemon.json:1: Unexpected UTF-8 BOM"),
        (b'{"a":\n NaN}', "daemon.json:2: NaN is no number"),
        (b'{"a": 1e999}', "1e999 is no number"),
        (b'{"a": %s}' % (b"9" * 5000), "is no number"),
        (b"[" * 200_000, "nested too deeply"),
        (b'{"runtimes": ["runc"]}', "runtimes is no object"),
        (b'{"a": "\n"}', "daemon.json:1: Invalid control character"),
        (b"{'debug': true}", "daemon.json:1: "),
        (b'{"debug": true} // on', "daemon.json:1: Extra data"),
    ],
    ids=lambda value: value[:30].decode(errors="replace") if isinstance(value, bytes) else None,
)
def test_files_that_are_refused(data: bytes, message: str) -> None:
    with pytest.raises(UserError) as refused:
        daemon_json.read(data, "daemon.json")
    assert message in refused.value.message and refused.value.hint


def test_text_that_only_json_can_hold_survives() -> None:
    text = '{"a": "\\ud800\\u0000", "b": "\\u00e9"}'
    assert json.loads(edited(text))["a"] == "\ud800\x00"
    accented = '{"a": "\\ud800", "b": "é"}'
    assert json.loads(edited(accented)) | {"runtimes": 0} == {"a": "\ud800", "b": "é", "runtimes": 0}


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip
runtimes = st.dictionaries(
    st.sampled_from(["crun", "nvidia", "gvisor"]),
    st.fixed_dictionaries({"path": st.just("/bin/x")}) | st.just({"runtimeType": "io.x"}),
)


@given(
    rest=st.dictionaries(st.text(max_size=12).filter(lambda key: key != "runtimes"), values, max_size=5),
    has=st.none() | runtimes.filter(bool),
    indent=st.sampled_from([None, 2, 4, "\t"]),
)
def test_registering_twice_is_registering_once_and_unregistering_undoes_it(
    rest: dict[str, Any], has: dict[str, Any] | None, indent: int | str | None
) -> None:
    settings = rest if has is None else rest | {"runtimes": has}
    text = json.dumps(settings, indent=indent)
    once = edited(text)
    assert edited(once) == once
    back = daemon_json.without_runtimes(daemon_json.read(once.encode(), "f"))
    assert back == settings and list(back) == list(settings)
