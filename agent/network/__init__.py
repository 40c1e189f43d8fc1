"""Wires containers into overlay networks and published ports, through netlink, namespaces and nftables.

`plan.py`, `ports.py` and `netlink.py` are pure: what is wanted, and how it is said to the kernel. `namespaces.py`,
`kernel.py` and `nft.py` do it, blocking, in threads that live in the node's namespace; `wiring.py` is what the rest of
the agent calls. This room never talks to the engine or to a manager, forks nothing for a container, and keeps no state
of its own: names of namespaces, links and tables tell a restarted agent what is there.
"""
