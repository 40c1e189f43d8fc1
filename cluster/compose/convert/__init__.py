"""From a loaded project to what the cluster runs: the model that `docker compose config` prints becomes a StackSpec.

`verdicts` holds the one table of what happens with each key, `judge` holds a project to it, `contents` reads the files
of secrets and configs, `builds` tells what is built before a deploy. The rest converts, one idea a file; `field` reads
the plain model with types and the place of each value. The rules are those of `docker stack deploy`, and where an
engine can do more than a swarm's service, those of `docker compose up`.
"""

from __future__ import annotations

from cluster.compose.convert.builds import Build, builds
from cluster.compose.convert.contents import contents
from cluster.compose.convert.judge import Judged, judge
from cluster.compose.convert.stack import convert

__all__ = ["Build", "Judged", "builds", "contents", "convert", "judge"]
