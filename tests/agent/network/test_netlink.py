"""Our hand-written messages as pyroute2, which shares no line with them, reads them."""

from __future__ import annotations

from typing import Any

import pytest
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg

from agent.network import netlink

MAC = "02:42:0a:80:00:02"


def read(message: Any) -> Any:
    """Give a decoded message as plain mappings: attributes by name, nested ones too."""
    attrs = message.get("attrs") if hasattr(message, "get") else None
    if attrs is None:
        return message
    fields = {name: value for name, value in message.items() if name not in ("attrs", "header", "__align")}
    return fields | {name: read(value) for name, value in ((a[0], a[1]) for a in attrs)}


def decoded(kind: type[Any], request: netlink.Request) -> Any:
    message = kind(request.encode(7))
    message.decode()
    header = message["header"]
    assert header["length"] == len(request.encode(7)) and header["sequence_number"] == 7
    assert header["type"] == request.kind and header["flags"] & netlink.ACK
    return read(message)


def test_a_bridge_has_its_mac_and_is_quiet() -> None:
    link = decoded(ifinfmsg, netlink.add_bridge(7, "br0", MAC, 1450))
    assert (link["index"], link["IFLA_IFNAME"], link["IFLA_ADDRESS"], link["IFLA_MTU"]) == (7, "br0", MAC, 1450)
    info = link["IFLA_LINKINFO"]
    assert info["IFLA_INFO_KIND"] == "bridge"
    assert (info["IFLA_INFO_DATA"]["IFLA_BR_STP_STATE"], info["IFLA_INFO_DATA"]["IFLA_BR_MCAST_SNOOPING"]) == (0, 0)


def test_a_vxlan_neither_learns_nor_asks() -> None:
    link = decoded(ifinfmsg, netlink.add_vxlan(9, "vx0", 5, master=7, vni=4097, local="10.0.0.1", port=4789, mtu=1450))
    assert (link["IFLA_MASTER"], link["IFLA_NET_NS_FD"], link["IFLA_MTU"]) == (7, 5, 1450)
    data = link["IFLA_LINKINFO"]["IFLA_INFO_DATA"]
    assert (data["IFLA_VXLAN_ID"], data["IFLA_VXLAN_LOCAL"], data["IFLA_VXLAN_PORT"]) == (4097, "10.0.0.1", 4789)
    assert (data["IFLA_VXLAN_LEARNING"], data["IFLA_VXLAN_PROXY"]) == (0, 1)
    assert (data["IFLA_VXLAN_L2MISS"], data["IFLA_VXLAN_L3MISS"]) == (0, 0)


def test_the_other_end_of_a_veth_is_born_in_its_namespace() -> None:
    link = decoded(
        ifinfmsg,
        netlink.add_veth(
            11, "v1", master=7, mtu=1450, peer="eth0", peer_index=2, peer_mac=MAC, namespace=6
        ),
    )  # fmt: skip
    assert (link["IFLA_IFNAME"], link["IFLA_MASTER"]) == ("v1", 7)
    peer = link["IFLA_LINKINFO"]["IFLA_INFO_DATA"]["VETH_INFO_PEER"]
    assert (peer["IFLA_IFNAME"], peer["IFLA_ADDRESS"], peer["IFLA_NET_NS_FD"]) == ("eth0", MAC, 6)
    assert (peer["index"], peer["IFLA_MTU"]) == (2, 1450)


@pytest.mark.parametrize(("address", "prefix"), [("10.128.0.2", 20), ("fd00::2", 64)])
def test_an_address(address: str, prefix: int) -> None:
    row = decoded(ifaddrmsg, netlink.add_address(2, address, prefix))
    assert (row["index"], row["prefixlen"], row["IFA_LOCAL"], row["IFA_ADDRESS"]) == (2, prefix, address, address)


@pytest.mark.parametrize("address", ["10.128.0.2", "fd00::2"])
def test_a_neighbour_is_permanent(address: str) -> None:
    row = decoded(ndmsg, netlink.set_neighbour(9, address, MAC))
    assert (row["ifindex"], row["NDA_DST"], row["NDA_LLADDR"]) == (9, address, MAC)
    assert row["state"] == netlink.NUD_PERMANENT


def test_a_remote_mac_is_a_row_of_the_vxlan_itself() -> None:
    row = decoded(ndmsg, netlink.set_remote_mac(9, MAC, "10.0.0.2"))
    assert (row["family"], row["flags"], row["NDA_LLADDR"]) == (netlink.AF_BRIDGE, netlink.NTF_SELF, MAC)
    assert row["NDA_DST"] == "10.0.0.2"


@pytest.mark.root
def test_what_the_kernel_tells_is_read_alike() -> None:
    from pyroute2 import IPRoute

    with IPRoute() as kernel:
        [loopback] = kernel.get_links(ifname="lo")
        body = bytes(loopback.data)[16:]
    link = netlink.read_link(body)
    assert (link.name, link.index, link.mtu) == ("lo", loopback["index"], loopback.get_attr("IFLA_MTU"))
