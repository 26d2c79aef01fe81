"""The quick start: two tasks, the second takes what the first made. Needs `make up`."""

import os
from typing import Any

from maze import MaClient, task


@task(inputs=["text"], outputs=["result"])
def shout(params: dict[str, Any]) -> dict[str, Any]:
    return {"result": params["text"].upper()}


@task(inputs=["text"], outputs=["result"])
def greet(params: dict[str, Any]) -> dict[str, Any]:
    return {"result": f"{params['text']}, WORLD"}


def main() -> dict[str, Any]:
    client = MaClient(os.environ.get("MAZE_API", "http://127.0.0.1:8000"))
    workflow = client.create_workflow()
    first = workflow.add_task(shout, inputs={"text": "hello"})
    workflow.add_task(greet, inputs={"text": first.outputs["result"]})

    run_id = workflow.run()
    return workflow.show_results(run_id)


if __name__ == "__main__":
    main()
