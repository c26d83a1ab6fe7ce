"""An app of `python -m bench.clustering`: `python clustered.py NAME ROLE[,ROLE] [SERVER NODE]`.

With a server it is a machine of a cluster, which runs these roles only."""

import sys

import mob

name, roles, *cluster = sys.argv[1:]
app = mob.start(name).base(__file__)
app.role("back", "./clustered_back.py").role("caller", "./clustered_caller.py")
if cluster:
    server, node = cluster
    app.cluster(server, node=node).place(**dict.fromkeys(roles.split(","), 1))
app.run()
