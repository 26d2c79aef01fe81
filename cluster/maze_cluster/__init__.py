"""A real Kubernetes for Maze, brought up and taken down by one command.

Three flavours, chosen by `flavour.choose_flavour`: *kind* where a Docker engine answers, *embedded* on a Linux machine
with root and nothing else, *existing* for a cluster that somebody else runs. They deploy the same manifests.

The rooms: `layout` names every path, port and address; `flavour`, `heal`, `firewall`, `configs` and `components` only
decide (pure functions over frozen values, see tests/unit/test_cluster_*.py); `host`, `process`, `pki`, `tools`,
`images` and `deploy` touch the machine; `embedded`, `kind` and `existing` put them in order.

One embedded cluster per machine: what it makes there has fixed names (bridge maze0, cgroup maze, /run/maze), so that
whatever a crash leaves behind can be recognised as ours and cleared, and nothing else is ever touched.
"""
