"""The pure heart of the leader: from the whole picture and an instant to a plan, a file for each question.

`orchestrator` asks what becomes of a service (with `updater`, `restarts`, `scheduler`, `allocator`), `stacks` what a
deploy or removal brings, `liveness` what to make of a node; `agenda` knows which questions are open. Nothing here does
anything: no clock, no etcd, no event loop, no chance. The same picture and instant give the same plan.
"""
