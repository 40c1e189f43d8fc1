"""The systemd units of manager and agent, as text. Pure.

The agent mounts network namespaces that the engine must see. So its unit has no directive that would give it a mount
namespace of its own (PrivateTmp, Protect..., ReadOnlyPaths, RootDirectory, LoadCredential and their like); what it may
do is bounded by capabilities and system calls. The manager has one: where the agent keeps its namespaces is a shared
mount, so what the agent unmounts goes from the manager's copy, too.
"""

from __future__ import annotations

from collections.abc import Sequence

MANAGER, AGENT = "stackyard-manager.service", "stackyard-agent.service"

AGENT_CAPABILITIES = (
    "CAP_NET_ADMIN",  # links, addresses, routes, nftables, in the host's and in containers' network namespaces
    "CAP_SYS_ADMIN",  # making, entering and mounting those namespaces
    "CAP_NET_BIND_SERVICE",  # port 53 in each of them
    "CAP_NET_RAW",  # binding sockets to devices
    "CAP_SYS_PTRACE",  # the namespaces of processes that are not root's
    "CAP_DAC_OVERRIDE",  # files of other owners: sockets, volumes
    "CAP_CHOWN",  # files for containers whose users are others
    "CAP_FOWNER",
    "CAP_KILL",  # conntrack and probes of processes of other users
    "CAP_SYS_RESOURCE",  # more open files
)

MOST_KEPT = 4096
"""Sockets that are kept for the next agent, two a task; their names have to fit into one variable of an environment."""

_COMMON = """\
Restart=always
RestartSec=1
TimeoutStopSec=60
UMask=0077
LimitNOFILE=1048576
NoNewPrivileges=yes
LockPersonality=yes
RestrictRealtime=yes
RestrictSUIDSGID=yes
SystemCallArchitectures=native
"""

# Neither ProtectSystem=strict nor PrivateTmp: /run/stackyard is yet to be made at the first start, and the programs may
# be installed below /tmp. Of the system calls etcd's setpriv needs capset.
_CONFINED = """\
ProtectSystem=full
ProtectHome=read-only
ProtectProc=invisible
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectKernelLogs=yes
ProtectControlGroups=yes
ProtectClock=yes
ProtectHostname=yes
PrivateDevices=yes
DevicePolicy=closed
MemoryDenyWriteExecute=yes
KeyringMode=private
"""


def manager(command: Sequence[str]) -> str:
    """The manager ends its own etcd; what is left of that after a kill is ended with the unit."""
    return f"""\
[Unit]
Description=Stackyard manager: desired state, decisions, agents' sessions
Wants=network-online.target
After=network-online.target
StartLimitIntervalSec=0

[Service]
ExecStart={_line(command)}
{_COMMON}KillMode=mixed
CapabilityBoundingSet=
RestrictNamespaces=yes
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6
{_CONFINED}SystemCallErrorNumber=EPERM
SystemCallFilter=@system-service
SystemCallFilter=~@privileged @resources
SystemCallFilter=capset

[Install]
WantedBy=multi-user.target
"""


def agent(command: Sequence[str]) -> str:
    """Containers are the engine's children: they live on when the agent ends, and so does their network."""
    return f"""\
[Unit]
Description=Stackyard agent: runs this node's tasks through the Docker Engine
Wants=network-online.target docker.service
After=network-online.target docker.service {MANAGER}
StartLimitIntervalSec=0

[Service]
ExecStart={_line(command)}
{_COMMON}KillMode=process
NotifyAccess=main
FileDescriptorStoreMax={MOST_KEPT}
CapabilityBoundingSet={" ".join(AGENT_CAPABILITIES)}
RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6 AF_NETLINK AF_PACKET
SystemCallFilter=@system-service @mount

[Install]
WantedBy=multi-user.target
"""


def _line(command: Sequence[str]) -> str:
    return " ".join(map(_word, command))


def _word(word: str) -> str:
    """Quote a word so that systemd takes every character of it for itself."""
    for character, instead in (("\\", "\\\\"), ('"', '\\"'), ("\n", "\\n"), ("%", "%%"), ("$", "$$")):
        word = word.replace(character, instead)
    plain = word and not any(character.isspace() or character in "\"';" for character in word)
    return word if plain else f'"{word}"'
