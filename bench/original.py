"""What a user of the original Maze client waits for: `python original.py ADDRESS`, in an environment of its own.

The same program measures Maze on Ray and Maze on Kubernetes. Each line of its input is "chain N" or "fan_out N"; the answer
is a line of JSON, `{"made": number, "told": number, "seconds": number, "workflow": id}`: seconds from `run()` until that
returns, until the client was told that the workflow has ended, and until it returns with the results (it looks for the end
every 0.1 s only). Building the workflow is not in it.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import websocket

from maze import MaClient, task

Params = dict[str, Any]


@task(inputs=["n"], outputs=["n"])
def following(params: Params) -> Params:
    return {"n": params["n"] + 1}


class Listening(websocket.WebSocketApp):
    """Notes when the last message came, and changes nothing."""

    last = 0.0

    def __init__(self, url: str, *, on_message: Any, **more: Any) -> None:
        def listen(app: Any, message: str) -> None:
            Listening.last = time.perf_counter()
            on_message(app, message)

        super().__init__(url, on_message=listen, **more)


def run(workflow: Any) -> dict[str, float]:
    began = time.perf_counter()
    run_id = workflow.run()
    made = time.perf_counter()
    messages = workflow.get_results(run_id, verbose=False)
    ended = time.perf_counter()
    if messages[-1]["type"] != "finish_workflow" or any(m["type"] == "task_exception" for m in messages):
        raise SystemExit(f"the workflow failed: {messages[-1]}")
    return {"made": made - began, "told": Listening.last - began, "seconds": ended - began}


def main() -> None:
    setattr(websocket, "WebSocketApp", Listening)  # noqa: B010 - where the client finds it
    client = MaClient(sys.argv[1])
    for line in sys.stdin:
        kind, count = line.split()
        workflow = client.create_workflow()
        last: Any = None
        for number in range(int(count)):
            given = number if kind == "fan_out" or last is None else last.outputs["n"]
            last = workflow.add_task(following, inputs={"n": given})
        print(json.dumps({**run(workflow), "workflow": workflow.workflow_id}), flush=True)


if __name__ == "__main__":
    main()
