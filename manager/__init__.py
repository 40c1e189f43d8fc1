"""The control plane: keeps the desired state in etcd, decides what runs where, and steers the agents.

`main` wires it. `api` and `sessions` face people and agents, `picture` is what all of it reads, `control` with `decide`
is the leader, `etcd` the store. Nothing here touches a container or a network device.
"""
