from __future__ import annotations

import os
from pathlib import Path

from agent.node_dns import NodeDns
from agent.resolv_conf import ResolvConf, parse

TEXT = """\
# made by hand
; nameserver 192.0.2.1
domain old.test
nameserver 127.0.0.53
nameserver\tfe80::1%eth0  # the second
search a.test b.test
options edns0
options timeout:1 rotate
nameserver
sortlist 192.0.2.0
"""


def test_it_is_read_as_the_c_library_does() -> None:
    servers, search = ("127.0.0.53", "fe80::1%eth0"), ("a.test", "b.test")
    assert parse(TEXT) == ResolvConf(servers, search, ("edns0", "timeout:1", "rotate"))
    assert parse("search a.test\ndomain b.test\n").search == ("b.test",)
    assert parse("") == ResolvConf()


def test_it_is_read_again_when_it_changed(tmp_path: Path) -> None:
    file = tmp_path / "resolv.conf"
    node = NodeDns(file)
    assert node.read() == ResolvConf()
    file.write_text("nameserver 192.0.2.1\n")
    assert node.read().servers == ("192.0.2.1",)
    file.write_text("nameserver 192.0.2.2\n")
    os.utime(file, ns=(1, 1))
    assert node.read().servers == ("192.0.2.2",)
    file.unlink()
    assert node.read() == ResolvConf()
