"""The container of a service: every key of the engine, in the forms that Docker prints."""

from __future__ import annotations

from typing import Any

import pytest

from cluster.model.container import (
    BlockIO,
    ContainerSpec,
    DeviceMapping,
    DeviceRequest,
    FileReference,
    Healthcheck,
    Logging,
    Mount,
    Ulimit,
)
from tests.cluster.compose.convert.plain import container, refused

PLAIN = ContainerSpec(image="x")
DECLARED: dict[str, Any] = {"secrets": {"s": {"file": "/s"}}, "configs": {"c": {"file": "/c"}}, "volumes": {"v": {}}}


def test_nothing_told_is_the_engines_own() -> None:
    assert container({"command": None, "entrypoint": None}) == PLAIN


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"image": "registry:5000/a/b:1@sha256:" + "0" * 64}, "image", "registry:5000/a/b:1@sha256:" + "0" * 64),
        ({"command": ["a", "b"]}, "command", ("a", "b")),
        ({"command": []}, "command", ()),
        ({"entrypoint": []}, "entrypoint", ()),
        ({"environment": {"A": "1", "B": ""}}, "environment", {"A": "1", "B": ""}),
        ({"environment": {"C": None}}, "unset_environment", ("C",)),
        ({"hostname": "h"}, "hostname", "h"),
        ({"hostname": "{{.Node.Hostname}}"}, "hostname", "{{.Node.Hostname}}"),
        ({"environment": {"A": "{{.Task.Slot}}"}}, "environment", {"A": "{{.Task.Slot}}"}),
        ({"domainname": "example.com"}, "domainname", "example.com"),
        ({"user": "1000:1000"}, "user", "1000:1000"),
        ({"working_dir": "/w"}, "working_dir", "/w"),
        ({"stop_signal": "sigint"}, "stop_signal", "SIGINT"),
        ({"stop_grace_period": "1m30.5s"}, "stop_grace_period", 90.5),
        ({"stop_grace_period": "0s"}, "stop_grace_period", 0.0),
        ({"init": True}, "init", True),
        ({"privileged": True}, "privileged", True),
        ({"cap_add": ["net_admin", "CAP_SYS_TIME", "NET_ADMIN"]}, "cap_add", ("CAP_NET_ADMIN", "CAP_SYS_TIME")),
        ({"cap_add": ["NET_ADMIN", "ALL"]}, "cap_add", ("ALL",)),
        ({"security_opt": ["label=disable"]}, "security_opt", ("label=disable",)),
        ({"sysctls": {"net.core.somaxconn": "1024"}}, "sysctls", {"net.core.somaxconn": "1024"}),
        ({"ulimits": {"nproc": 5, "nofile": {"soft": 1, "hard": -1}}}, "ulimits",
         {"nproc": Ulimit(5, 5), "nofile": Ulimit(1, -1)}),
        ({"extra_hosts": ["a=10.0.0.1", "a=[::1]", "gate=host-gateway"]}, "extra_hosts",
         (("a", "10.0.0.1"), ("a", "::1"), ("gate", "host-gateway"))),
        ({"dns": ["8.8.8.8"]}, "dns", ("8.8.8.8",)),
        ({"dns_search": ["a.b"]}, "dns_search", ("a.b",)),
        ({"dns_opt": ["use-vc"]}, "dns_options", ("use-vc",)),
        ({"logging": {"driver": "syslog", "options": {"tag": "t"}}}, "logging", Logging("syslog", {"tag": "t"})),
        ({"annotations": {"a": "b"}}, "annotations", {"a": "b"}),
        ({"group_add": ["mail", "0"]}, "group_add", ("mail", "0")),
        ({"devices": [{"source": "/dev/a", "target": "/dev/b", "permissions": "r"}]}, "devices",
         (DeviceMapping("/dev/a", "/dev/b", "r"),)),
        ({"devices": [{"source": "vendor.com/gpu=all", "target": "vendor.com/gpu=all", "permissions": "rwm"}]},
         "devices", (DeviceMapping("vendor.com/gpu=all", "vendor.com/gpu=all"),)),
        ({"device_cgroup_rules": ["c 1:3 mr"]}, "device_cgroup_rules", ("c 1:3 mr",)),
        ({"gpus": [{"count": -1}]}, "device_requests", (DeviceRequest(count=-1, capabilities=("gpu",)),)),
        ({"gpus": [{"driver": "d", "device_ids": ["1"], "capabilities": ["x"], "options": {"o": "1"}}]},
         "device_requests", (DeviceRequest("d", 0, ("1",), ("x", "gpu"), {"o": "1"}),)),
        ({"deploy": {"resources": {"reservations": {"devices": [{"capabilities": ["tpu"], "count": 2}]}}}},
         "device_requests", (DeviceRequest(count=2, capabilities=("tpu",)),)),
        ({"runtime": "nvidia"}, "runtime", "nvidia"),
        ({"pid": "host"}, "pid", "host"),
        ({"ipc": "shareable"}, "ipc", "shareable"),
        ({"uts": "host"}, "uts", "host"),
        ({"userns_mode": "host"}, "userns_mode", "host"),
        ({"cgroup": "private"}, "cgroup", "private"),
        ({"cgroup_parent": "/p"}, "cgroup_parent", "/p"),
        ({"shm_size": "67108864"}, "shm_size", 67108864),
        ({"storage_opt": {"size": "20G"}}, "storage_opt", {"size": "20G"}),
        ({"cpu_shares": 512}, "cpu_shares", 512),
        ({"cpu_quota": 50000}, "cpu_quota", 50000),
        ({"cpu_rt_runtime": 950000}, "cpu_rt_runtime", 950000),
        ({"cpuset": "0,1"}, "cpuset", "0,1"),
        ({"memswap_limit": "-1"}, "memswap_limit", -1),
        ({"mem_swappiness": "10"}, "mem_swappiness", 10),
        ({"blkio_config": {"weight": 300, "weight_device": [{"Path": "/dev/sda", "Weight": 400}],
                           "device_read_bps": [{"Path": "/dev/sda", "Rate": "1048576"}]}}, "block_io",
         BlockIO(300, {"/dev/sda": 400}, {"/dev/sda": 1048576})),
        ({"oom_kill_disable": True}, "oom_kill_disable", True),
        ({"oom_score_adj": -500}, "oom_score_adj", -500),
        ({"platform": "linux/arm64"}, "platform", "linux/arm64"),
        ({"pull_policy": "if_not_present"}, "pull_policy", "missing"),
        ({"healthcheck": {"disable": True}}, "healthcheck", Healthcheck(("NONE",))),
        ({"healthcheck": {"interval": "5s", "retries": 0}}, "healthcheck", Healthcheck((), 5.0, retries=0)),
        ({"healthcheck": {"test": ["CMD-SHELL", "true"], "start_period": "1m0s", "start_interval": "1s"}},
         "healthcheck", Healthcheck(("CMD-SHELL", "true"), start_period=60.0, start_interval=1.0)),
        ({"secrets": [{"source": "s"}]}, "secrets", (FileReference("s", "/run/secrets/s"),)),
        ({"secrets": [{"source": "s", "target": "t", "uid": "1", "gid": "2", "mode": "0400"}]}, "secrets",
         (FileReference("s", "/run/secrets/t", "1", "2", 0o400),)),
        ({"secrets": [{"source": "s", "target": "/etc/s"}]}, "secrets", (FileReference("s", "/etc/s"),)),
        ({"configs": [{"source": "c"}]}, "configs", (FileReference("c", "/c"),)),
        ({"configs": [{"source": "c", "target": "a/b"}]}, "configs", (FileReference("c", "/a/b"),)),
        ({"volumes": [{"type": "volume", "source": "v", "target": "/v/", "volume": {"nocopy": True, "subpath": "a"}}]},
         "mounts", (Mount("volume", "/v", "shop_v", nocopy=True, subpath="a"),)),
        ({"volumes": [{"type": "volume", "source": "v", "target": "/v", "bind": {"selinux": "z"}}]}, "mounts",
         (Mount("volume", "/v", "shop_v", selinux="z"),)),
        ({"volumes": [{"type": "volume", "target": "/v", "read_only": True}]}, "mounts",
         (Mount("volume", "/v", read_only=True),)),
        ({"volumes": [{"type": "bind", "source": "/a/", "target": "/b",
                       "bind": {"create_host_path": True, "propagation": "rslave", "selinux": "Z"}}]}, "mounts",
         (Mount("bind", "/b", "/a", propagation="rslave", create_host_path=True, selinux="Z"),)),
        ({"volumes": [{"type": "tmpfs", "target": "/t", "tmpfs": {"size": "10485760", "mode": 493}}]}, "mounts",
         (Mount("tmpfs", "/t", tmpfs_size=10485760, tmpfs_mode=0o755),)),
        ({"tmpfs": ["/run", "/tmp:size=64m,mode=1777,noexec"]}, "mounts",
         (Mount("tmpfs", "/run"), Mount("tmpfs", "/tmp", tmpfs_size=64 * 2**20, tmpfs_mode=0o1777))),
        ({"tmpfs": ["/run:exec,uid=1000,ro"]}, "mounts",
         (Mount("tmpfs", "/run", read_only=True, tmpfs_options=("exec", "uid=1000")),)),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_each_key(fields: dict[str, Any], name: str, value: Any) -> None:
    found = container(fields, **DECLARED)
    assert getattr(found, name) == value
    others = {key for key in ContainerSpec.__slots__ if getattr(found, key) != getattr(PLAIN, key)}
    assert others <= {name}


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"image": ""}, ""),
        ({"image": "UPPER"}, "image"),
        ({"command": "ls"}, "command"),
        ({"environment": {"A=B": "c"}}, "environment.A=B"),
        ({"hostname": "a b"}, "hostname"),
        ({"hostname": "{{.Node.Hostname"}, "hostname"),
        ({"environment": {"A": "{{range .}}"}}, "environment.A"),
        ({"user": "a:b:c"}, "user"),
        ({"working_dir": "w"}, "working_dir"),
        ({"stop_signal": "stop!"}, "stop_signal"),
        ({"stop_grace_period": "1x"}, "stop_grace_period"),
        ({"init": "yes"}, "init"),
        ({"cap_add": ["NO-WAY"]}, "cap_add.0"),
        ({"ulimits": {"nofile": {"soft": 2, "hard": 1}}}, "ulimits.nofile"),
        ({"ulimits": {"nofile": {"soft": 2}}}, "ulimits.nofile"),
        ({"ulimits": {"nofile": None}}, "ulimits.nofile"),
        ({"extra_hosts": ["a"]}, "extra_hosts.0"),
        ({"extra_hosts": ["a=b"]}, "extra_hosts.0"),
        ({"dns": ["here"]}, "dns.0"),
        ({"devices": [{"target": "/dev/a"}]}, "devices.0"),
        ({"devices": [{"source": "/dev/a", "permissions": "all"}]}, "devices.0.permissions"),
        ({"deploy": {"resources": {"reservations": {"devices": [{"count": 1}]}}}},
         "deploy.resources.reservations.devices.0"),
        ({"gpus": [{"count": 1, "device_ids": ["1"]}]}, "gpus.0.count"),
        ({"uts": "mine"}, "uts"),
        ({"cgroup": "mine"}, "cgroup"),
        ({"mem_swappiness": "200"}, "mem_swappiness"),
        ({"oom_score_adj": 5000}, "oom_score_adj"),
        ({"shm_size": "64m"}, "shm_size"),
        ({"labels": {"com.stackyard.task": "x"}}, "labels.com.stackyard.task"),
        ({"healthcheck": {"test": ["true"]}}, "healthcheck.test"),
        ({"healthcheck": {"test": ["CMD"]}}, "healthcheck.test"),
        ({"healthcheck": {"test": ["CMD", "true"], "disable": True}}, "healthcheck.disable"),
        ({"secrets": [{"source": "t"}]}, "secrets.0"),
        ({"secrets": [{"source": "s"}, {"source": "s", "target": "/run/secrets/s"}]}, "secrets.1"),
        ({"secrets": [{"source": "s", "uid": "root"}]}, "secrets.0.uid"),
        ({"secrets": [{"source": "s", "mode": "9"}]}, "secrets.0.mode"),
        ({"configs": [{"source": "c", "target": "/"}]}, "configs.0.target"),
        ({"volumes": [{"type": "volume", "source": "w", "target": "/w"}]}, "volumes.0"),
        ({"volumes": [{"type": "volume", "source": "v"}]}, "volumes.0.target"),
        ({"volumes": [{"type": "volume", "source": "v", "target": "v"}]}, "volumes.0.target"),
        ({"volumes": [{"type": "volume", "source": "v", "target": "/v", "tmpfs": {"size": "1"}}]}, "volumes.0.tmpfs"),
        ({"volumes": [{"type": "volume", "source": "v", "target": "/v", "volume": {"subpath": "../w"}}]},
         "volumes.0.volume.subpath"),
        ({"volumes": [{"type": "bind", "target": "/v"}]}, "volumes.0"),
        ({"volumes": [{"type": "bind", "source": "v", "target": "/v"}]}, "volumes.0.source"),
        ({"volumes": [{"type": "tmpfs", "source": "v", "target": "/v"}]}, "volumes.0.source"),
        ({"tmpfs": ["run"]}, "tmpfs.0"),
        ({"tmpfs": ["/run:uid=me"]}, "tmpfs.0"),
        ({"tmpfs": ["/run:size=lots"]}, "tmpfs.0"),
        ({"blkio_config": {"device_read_bps": [{"Path": "/dev/sda"}]}}, "blkio_config.device_read_bps.0"),
    ],
    ids=lambda value: str(value)[:50],
)  # fmt: skip
def test_values_that_cannot_be(fields: dict[str, Any], field: str) -> None:
    assert refused(fields, **DECLARED).field == f"services.a.{field}".rstrip(".")


def test_a_mount_later_in_the_list_takes_the_place_of_one_before() -> None:
    mounts = [{"type": "volume", "source": "v", "target": "/v"}, {"type": "tmpfs", "target": "/v/"}]
    assert container({"volumes": mounts}, **DECLARED).mounts == (Mount("tmpfs", "/v"),)
