"""The Maze operator. `core` decides and has no I/O; everything else here is the thin shell around it."""
