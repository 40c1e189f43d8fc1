"""Virtual addresses: one of each network for a service whose names are to lead to one address.

The claim is all there is of it: made when the network is there, given up when the service has left the network with
its last task, and deleted with the service.
"""

from __future__ import annotations

from collections.abc import Iterable

from cluster.codec import key_for, key_of
from cluster.model.network import INGRESS, Network
from cluster.model.service import ServiceMode, ServiceSpec
from manager.decide.allocator import AddressAllocator, NoRoom
from manager.decide.plan import Draft
from manager.decide.slots import ServicePicture
from manager.picture import claim_key


def settle(picture: ServicePicture, draft: Draft, networks: Iterable[Network], addresses: AddressAllocator) -> None:
    """Claim the virtual addresses that a service lacks in its networks, and give up those that it has no use for.

    A network without a free address leaves its names to the tasks' own addresses.
    """
    state, service = picture.state, picture.service
    held = state.virtual_addresses(service.uid)
    virtual = _is_virtual(picture.spec)
    wanted = [network for network in networks if virtual and network.id != INGRESS]
    for network in wanted:
        if network.id in held:
            continue
        try:
            _, claims = addresses.endpoint(network, service.uid)
        except NoRoom:
            continue
        guards = [key_of(service), key_for(Network, network.id)]
        draft.step(f"give {service.full_name} a virtual address in {network.name}", puts=claims, guards=guards)
    spare = held.keys() - {network.id for network in wanted}
    if spare and virtual:
        live = (task for slot in picture.slots for task in slot.tasks if not state.has_ended(task))
        spare -= {endpoint.network for task in live for endpoint in task.endpoints}
    for network_id in sorted(spare):
        keys = [claim_key("address", f"{network_id}/{address}") for address in held[network_id]]
        draft.step(f"take a virtual address from {service.full_name}", deletes=keys, guards=[key_of(service)])


def _is_virtual(spec: ServiceSpec) -> bool:
    jobs = (ServiceMode.REPLICATED_JOB, ServiceMode.GLOBAL_JOB)
    return spec.endpoint_mode == "vip" and spec.mode not in jobs
