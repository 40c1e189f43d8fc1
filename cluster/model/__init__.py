"""The nouns of a cluster as frozen dataclasses, a file each.

Every noun has up to three records, each with one writer: the *spec* (the API: Stack, StackRevision, Node), the *state*
(the leader: ServiceState, Task, Network, Volume, NodeState) and the *status* (the manager that holds the agent's
session: Session, TaskStatus). Durations are seconds and instants are seconds since the epoch in cluster time, both as
floats; sizes are bytes. Mappings are never changed after construction, although the type system cannot say so.
"""
