"""What users of the original Maze client do, with that client as it is: `python original_client.py SCENARIO`.

Runs in an environment that has maze-agent 1.0.2 and not our SDK; see tests/e2e/test_maze_agent.py. The last line that it
prints is JSON: what the scenario returned, and the workflows that it made.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import websocket

from maze import LanggraphClient, MaClient, task

API = os.environ["MAZE_API"]
CLIENT = MaClient(API)
MADE: list[str] = []
Params = dict[str, Any]


def new_workflow() -> Any:
    made = CLIENT.create_workflow()
    MADE.append(made.workflow_id)
    return made


@task(inputs=["text"], outputs=["text"])
def upper(params: Params) -> Params:
    return {"text": params["text"].upper()}


@task(inputs=["text"], outputs=["text"])
def exclaim(params: Params) -> Params:
    return {"text": params["text"] + "!"}


@task(inputs=["a", "b"], outputs=["text", "length"], resources={"cpu": 1, "cpu_mem": 128})
def join(params: Params) -> Params:
    text = f"{params['a']} {params['b']}"
    return {"text": text, "length": len(text)}


@task(inputs=["number"], outputs=["square"])
def square(params: Params) -> Params:
    return {"square": params["number"] ** 2}


@task(inputs=["text"], outputs=["text"])
def fail(params: Params) -> Params:
    raise ValueError("this one fails")


@task(inputs=[], outputs=["random"])
def roll(params: Params) -> Params:
    return {"random": os.urandom(8).hex()}


@task(inputs=[], outputs=["common", "odd", "unset"])
def count(params: Params) -> Params:
    from collections import Counter

    return {"common": Counter("hello").most_common(1), "odd": {1, 2}, "unset": params.get("nothing")}


def kinds(messages: list[dict[str, Any]], task_id: str | None) -> list[str]:
    return [message["type"] for message in messages if message["data"].get("task_id") == task_id]


def chain() -> Any:
    workflow = new_workflow()
    first = workflow.add_task(upper, inputs={"text": "hello"})
    second = workflow.add_task(exclaim, inputs={"text": first.outputs["text"]})
    third = workflow.add_task(task_func=join, inputs={"a": second.outputs["text"], "b": "end"}, task_name="last")
    found = workflow.show_results(workflow.run())
    return {"summary": {**found, "task_results": None}, "last": found["task_results"][third.task_id]}


def diamond() -> Any:
    workflow = new_workflow()
    top = workflow.add_task(upper, inputs={"text": "x"})
    left = workflow.add_task(exclaim, inputs={"text": top.outputs["text"]})
    right = workflow.add_task(exclaim, inputs={"text": top.outputs["text"]})
    bottom = workflow.add_task(join, inputs={"a": left.outputs["text"], "b": right.outputs["text"]})
    messages = workflow.get_results(workflow.run(), verbose=False)
    at = {(m["type"], m["data"].get("task_id")): number for number, m in enumerate(messages)}
    ordered = all(
        at["finish_task", source.task_id] < at["start_task", target.task_id]
        for source, target in ((top, left), (top, right), (left, bottom), (right, bottom))
    )
    return {
        "ordered": ordered,
        "result": messages[at["finish_task", bottom.task_id]]["data"]["result"],
        "start": sorted(messages[0]["data"]),
        "end": [messages[-1]["type"], sorted(messages[-1]["data"])],
    }


def fan_out() -> Any:
    workflow = new_workflow()
    made = [workflow.add_task(square, inputs={"number": number}) for number in range(6)]
    found = workflow.show_results(workflow.run())["task_results"]
    return [found[each.task_id]["square"] for each in made]


def failing() -> Any:
    workflow = new_workflow()
    broken = workflow.add_task(fail, inputs={"text": "x"})
    after = workflow.add_task(upper, inputs={"text": broken.outputs["text"]})
    alone = workflow.add_task(upper, inputs={"text": "fine"})
    run_id = workflow.run()
    messages = workflow.get_results(run_id, verbose=False)
    found = workflow.show_results(run_id)
    return {
        "kinds": [kinds(messages, each.task_id) for each in (broken, after, alone)],
        "last": messages[-1]["type"],
        "text": next(m["data"]["result"] for m in messages if m["type"] == "task_exception"),
        "named": found["exception_tasks"] == [broken.task_id],
        "completed": found["workflow_completed"],
    }


def deleting() -> Any:
    workflow = new_workflow()
    first = workflow.add_task(upper, inputs={"text": "a"}, task_name="first")
    second = workflow.add_task(upper, inputs={"text": "b"}, task_name="second")
    third = workflow.add_task(upper, inputs={"text": "c"}, task_name="third")
    workflow.add_edge(first, second)
    workflow.add_edge(second, third)
    refused = ""
    try:
        workflow.add_edge(third, first)
    except Exception as error:  # noqa: BLE001 - it raises nothing more special
        refused = str(error)
    workflow.del_edge(second, third)
    workflow.add_edge(third, first)
    second.delete()
    messages = workflow.get_results(workflow.run(), verbose=False)
    return {
        "refused": refused,
        "left": [found["name"] for found in workflow.get_tasks()],
        "order": [m["data"]["task_id"] == third.task_id for m in messages if m["type"] == "finish_task"],
    }


def repeated() -> Any:
    workflow = new_workflow()
    made = workflow.add_task(roll)
    runs = [workflow.run() for _ in range(3)]
    results = [workflow.show_results(run_id)["task_results"][made.task_id]["random"] for run_id in runs]
    again = [workflow.get_task_result(run_id, made.task_id)["result"]["random"] for run_id in runs]
    return {"different": len(set(results)), "cached": workflow.list_cached_runs() == runs, "same": again == results}


def readers() -> Any:
    workflow = new_workflow()
    first = workflow.add_task(upper, inputs={"text": "a"})
    workflow.add_task(exclaim, inputs={"text": first.outputs["text"]})
    run_id = workflow.run()
    address = f"{API.replace('http', 'ws')}/get_workflow_res/{workflow.workflow_id}/{run_id}"
    leaver = websocket.create_connection(address)
    leaver.recv()
    leaver.close()
    read: list[Any] = []

    def reader() -> None:
        read.append(CLIENT.get_workflow(workflow.workflow_id).get_results(run_id, verbose=False))

    threads = [threading.Thread(target=reader) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    reader()
    return {"readers": len(read), "same": all(each == read[0] for each in read), "messages": len(read[0])}


def by_hand() -> Any:
    """The older form: source text and parameters, and values that are not JSON."""
    workflow = new_workflow()
    made = workflow.add_task(task_type="code", task_name="by hand")
    made.save(
        "import math\n\ndef area(params):\n    return {'area': math.floor(math.pi * params['r'] ** 2)}\n",
        {"input_params": {"1": {"key": "r", "input_schema": "from_user", "data_type": "int", "value": 2}}},
        {"output_params": {"1": {"key": "area", "data_type": "int"}}},
        {"cpu": 1, "cpu_mem": 0, "gpu": 0, "gpu_mem": 0},
    )
    odd = workflow.add_task(count)
    found = workflow.show_results(workflow.run())["task_results"]
    return {"area": found[made.task_id]["area"], **found[odd.task_id]}


def refusals() -> Any:
    unknown = CLIENT.get_workflow("00000000-0000-4000-8000-000000000000")
    words = []
    for call in (unknown.run, unknown.get_tasks, new_workflow().run):
        try:
            call()
        except Exception as error:  # noqa: BLE001 - it raises nothing more special
            words.append(str(error))
    return words


def langgraph() -> Any:
    client = LanggraphClient(API.removeprefix("http://"))
    MADE.append(client.workflow_id)

    @client.task
    def node(state: dict[str, Any], *, suffix: str = "") -> dict[str, Any]:
        return {"text": state["text"] + suffix, "pair": (1, 2)}

    @client.task(resources={"cpu": 1, "cpu_mem": 128})
    def breaks(state: dict[str, Any]) -> None:
        raise RuntimeError(f"no {state['text']}")

    with ThreadPoolExecutor(4) as pool:
        concurrent = list(pool.map(lambda number: node({"text": str(number)}, suffix="!"), range(4)))

    @client.task
    def double(text: str) -> str:
        return text * 2

    return {
        "one": node({"text": "hello"}, suffix=" world"),
        "concurrent": [each["text"] for each in concurrent],
        "large": len(double("x" * 100_000)),
        "raised": breaks({"text": "way"}),
    }


SCENARIOS: dict[str, Callable[[], Any]] = {
    each.__name__: each
    for each in (chain, diamond, fan_out, failing, deleting, repeated, readers, by_hand, refusals, langgraph)
}

if __name__ == "__main__":
    returned = SCENARIOS[sys.argv[1]]()
    print(json.dumps({"returned": returned, "workflows": MADE}))
