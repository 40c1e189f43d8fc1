"""The node agent, one on each host: makes the tasks that a manager assigned to this node exist, and says how they fare.

Down come assignments (`session`), a pure function compares them with what the engine and the kernel hold (`converge`),
a thin shell does one step at a time for each task (`runner`), and the statuses go up again. Its memory is the engine
(labels on containers) and the kernel (names on namespaces); the journal only bridges a time without manager.

It never decides where or whether a task runs, never talks to etcd, never touches a container without this cluster's
label, and removes nothing before it holds a complete set of assignments.
"""
