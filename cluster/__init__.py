"""The cluster's nouns, shared by the manager, the agent and the command line.

What a stack, a service, a task, a node and a network are; how they are written to bytes; the messages between
manager and agent; certificates; the Compose loader; the errors. Nothing here opens a socket, starts a process or looks
at a clock, and nothing here knows the programs that use it.
"""
