"""Makes this host a member of a cluster, and takes it out again: `stack init`, `stack join`, `stack leave`.

Each step looks at what is there and does what is missing, so a command that failed half way goes on when it is run
again, and one that is run twice changes nothing. `leave` undoes the same steps in the opposite order.

    checks.py       what a host must be
    engine.py       the Docker Engine here: what it is, where its configuration lies, reload
    daemon_json.py  pure: our runtimes in the engine's configuration, every other key as it is
    runtime.py      registers and unregisters them, and asks the engine whether it knows them
    units.py        pure: the systemd units of manager and agent
    services.py     installs, starts and removes them
    record.py       what was asked for, kept on disk
    local.py        a manager asked by its UNIX socket; the context of who types here
    member.py       the steps that init and join share; init.py, join.py, leave.py: the commands' own
"""
