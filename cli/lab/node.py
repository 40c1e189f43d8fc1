"""One node: a host with a cable to the switch."""

from __future__ import annotations

from dataclasses import dataclass

from cli.lab.host import Host
from cli.lab.layout import NodeLayout
from cli.lab.switch import Switch


@dataclass(frozen=True, slots=True)
class Node:
    layout: NodeLayout
    switch: Switch

    @property
    def name(self) -> str:
        return self.layout.name

    @property
    def host(self) -> Host:
        lab = self.layout.lab
        return Host(
            lab=lab.name,
            name=self.name,
            run_dir=self.layout.run_dir,
            data_dir=self.layout.data_dir,
            hosts_file=lab.hosts_file,
            network=lab.namespace_path(self.name),
        )

    def boot(self) -> None:
        """Switch it on: a new network namespace, nothing but the disk is kept."""
        self.power_off()
        self.switch.plug(self.name, self.layout.switch_port, self.layout.address)
        self.host.boot(self.layout.cgroup)

    def power_off(self) -> None:
        """Cut the power: the cable first, so that nobody hears a goodbye."""
        self.switch.set_port(self.layout.switch_port, up=False)
        self.host.end()
