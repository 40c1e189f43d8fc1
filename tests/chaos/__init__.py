"""A cluster of three managers, members of etcd and nodes under blows that a seed chooses, and what must hold.

    sudo .venv/bin/python -m tests.chaos --minutes 30 --seed 7

In each round some programs are killed, stopped in their tracks or given another time, nodes lose power or network,
all while clients deploy, scale, update secrets and read. Then everything is healed, and the round ends when the cluster
has converged. `people` are the clients and keep `history`; `replay` follows every revision of etcd; `blows` are what
goes wrong; `calm` watches containers that nobody has a reason to touch; `rounds` puts them together.

Only what must hold is judged, never how long something took.
"""
