"""The agents' sessions: assignments down, statuses up, heartbeats, and streams dialled on request.

A session is a record with an epoch, and everything that an agent says is written under it, so that an older session of
the same node can write nothing. Nothing here decides what should run, nor whether a node is lost: it tells what it
hears.
"""
