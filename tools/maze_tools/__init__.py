"""Tools of MCP servers: `call` executes a step that is a tool, `client` lists what a server has, `server` is an example.

`call` is a file that needs nothing but the package mcp: its text travels to the pod of the step, so that any image with
mcp will do. Nothing here knows the rest of Maze, and importing the package imports nothing heavy.
"""
