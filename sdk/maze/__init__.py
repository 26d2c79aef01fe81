"""Maze: workflows of Python functions that run as pods of a Kubernetes cluster.

from maze import MaClient, task

@task(inputs=["text"], outputs=["result"])
def shout(params):
    return {"result": params["text"].upper()}

workflow = MaClient().create_workflow()
workflow.add_task(shout, inputs={"text": "hello"})
workflow.show_results(workflow.run())
"""

from maze._client import MaClient
from maze._errors import (
    InvalidTask,
    MazeError,
    NotFound,
    RequestFailed,
    ServerUnreachable,
    StreamBroken,
    UnknownOutput,
    UnknownRun,
)
from maze._task import MaTask, TaskMetadata, TaskOutput, TaskOutputs, get_task_metadata, task
from maze._workflow import MaWorkflow

__all__ = [
    "InvalidTask",
    "MaClient",
    "MaTask",
    "MaWorkflow",
    "MazeError",
    "NotFound",
    "RequestFailed",
    "ServerUnreachable",
    "StreamBroken",
    "TaskMetadata",
    "TaskOutput",
    "TaskOutputs",
    "UnknownOutput",
    "UnknownRun",
    "get_task_metadata",
    "task",
]
