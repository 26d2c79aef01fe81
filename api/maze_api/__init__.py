"""The Maze API: translates REST and WebSocket calls into custom resources, and their status into messages.

It decides nothing and keeps nothing that a restart loses: drafts are in the object store, Runs are in Kubernetes.
Pickles pass through as bytes; nothing here ever loads one.
"""
