"""The REST API: checks a request, reads the picture, writes a spec, shows what there is. It never decides.

Routes are sorted by noun. What they show is worked out in `show` and `progress`, what they write in `revise`, all three
pure. Every route states which callers it is for. State and status are the leader's and the sessions' to write.
"""
