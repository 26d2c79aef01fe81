"""The Maze custom resources (maze.dev/v1alpha1): models, graph checks, names, and the runner protocol. No I/O."""
