"""How long tests wait for what is to come, in seconds.

Long enough for a machine that is slow and busy: where all is well nobody waits as long, and what is quick is measured
in bench/, not here.
"""

PATIENCE = 180.0
