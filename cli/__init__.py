"""The `stack` command, the Python client that it uses, and the lab.

It never decides and never joins what the API gives: it asks a manager and shows the answer. Modules are imported when a
command needs them, since every TAB completion starts the program.
"""
