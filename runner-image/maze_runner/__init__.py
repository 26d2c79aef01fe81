"""Executes Maze tasks in a pod: asks the operator for one, runs it in a forked child, stores and reports how it ended.

The parent (`main`, `attempt`, `process`, `payloads`, `outputs`) talks to the operator and the object store, and never
runs user code. The child (`child`, `code`, `inputs`, `returned`, `encode`) runs user code, and never talks to anyone: it
gets files and leaves files. What a child's end means is decided in `classify`. The contract is maze_crds.protocol.

Everything here starts in every task's pod, so: standard library only (cloudpickle in the child), heavy modules are
imported where they are used, and Python 3.9 must run it.
"""
