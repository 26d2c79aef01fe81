"""Maze: workflows of Python functions that run as pods of a Kubernetes cluster.

from maze import MaClient, task

@task(inputs=["text"], outputs=["result"])
def shout(params):
    return {"result": params["text"].upper()}

workflow = MaClient().create_workflow()
workflow.add_task(shout, inputs={"text": "hello"})
workflow.show_results(workflow.run())

`maze.testing.LocalClient` takes the place of MaClient where there is no cluster; the program `maze` is for the command line.
"""

from maze._client import MaClient
from maze._decorator import TaskMetadata, get_task_metadata, task
from maze._errors import (
    BadRequest,
    Conflict,
    DrawingUnavailable,
    InvalidTask,
    MazeError,
    NotFound,
    RequestFailed,
    ResultNotLoadable,
    RunCancelled,
    RunFailed,
    RunNotEnded,
    ServerUnreachable,
    StreamBroken,
    UnknownOutput,
    UnknownRun,
)
from maze._task import MaTask, TaskOutput, TaskOutputs
from maze._workflow import MaWorkflow

__all__ = [
    "BadRequest",
    "Conflict",
    "DrawingUnavailable",
    "InvalidTask",
    "MaClient",
    "MaTask",
    "MaWorkflow",
    "MazeError",
    "NotFound",
    "RequestFailed",
    "ResultNotLoadable",
    "RunCancelled",
    "RunFailed",
    "RunNotEnded",
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
