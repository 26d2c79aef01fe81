"""What a user of the original Maze client waits for: `python original.py ADDRESS CHAIN FAN_OUT ROUNDS`, in its own environment.

The same program measures Maze on Ray and Maze on Kubernetes. Seconds from `run()` until the client has the message that
the workflow has ended; building the workflow is not in it. The last line is JSON, also where it fails:
`{"rounds": [{"chain": seconds, "fan_out": seconds}], "workflows": [id]}`.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from maze import MaClient, task

Params = dict[str, Any]


@task(inputs=["n"], outputs=["n"])
def following(params: Params) -> Params:
    return {"n": params["n"] + 1}


def run(workflow: Any) -> float:
    began = time.perf_counter()
    messages = workflow.get_results(workflow.run(), verbose=False)
    took = time.perf_counter() - began
    if messages[-1]["type"] != "finish_workflow" or any(m["type"] == "task_exception" for m in messages):
        raise SystemExit(f"the workflow failed: {messages[-1]}")
    return took


def main() -> None:
    client = MaClient(sys.argv[1])
    chain, fan_out, rounds = (int(one) for one in sys.argv[2:5])
    found: list[dict[str, float]] = []
    made: list[str] = []

    def create() -> Any:
        workflow = client.create_workflow()
        made.append(workflow.workflow_id)
        return workflow

    try:
        for _ in range(rounds):
            narrow, wide = create(), create()
            last = narrow.add_task(following, inputs={"n": 0})
            for _ in range(chain - 1):
                last = narrow.add_task(following, inputs={"n": last.outputs["n"]})
            for number in range(fan_out):
                wide.add_task(following, inputs={"n": number})
            found.append({"chain": run(narrow), "fan_out": run(wide)})
    finally:
        print(json.dumps({"rounds": found, "workflows": made}))


if __name__ == "__main__":
    main()
