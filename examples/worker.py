"""A worker of your own: registers, takes tasks whose problem it knows, and reports what came out.

    python examples/worker.py my-worker "echo-*"

Create a task for it:  curl -X POST http://localhost:8000/api/v1/tasks -H "Content-Type: application/json" \\
    -d '{"problem_id": "echo-1", "parameters": {"text": "hello"}}'
"""

import sys
import threading
import time

import requests

API = "http://localhost:8000/api/v1"
HEARTBEAT_SECONDS = 15


def solve(problem_id, parameters):
    """Put your own work here; what it returns is the task's result."""
    return {"success": True, "output": f"{problem_id}: {parameters.get('text', '')}", "metrics": {"steps_taken": 1}}


def main(worker_id, *globs):
    session = requests.Session()
    capabilities = {"max_parallel_tasks": 1, "supported_problems": list(globs)}
    body = {"worker_id": worker_id, "backend_type": "script", "capabilities": capabilities}
    session.post(f"{API}/workers/register", json=body, timeout=30).raise_for_status()
    threading.Thread(target=send_heartbeats, args=(worker_id,), daemon=True).start()
    while True:
        claimed = session.post(f"{API}/workers/{worker_id}/claim", timeout=30)
        if claimed.status_code != 200:  # 204: nothing to do; 5xx: try again
            time.sleep(1)
            continue
        task = claimed.json()
        address = f"{API}/workers/{worker_id}/tasks/{task['id']}"
        try:
            answer, path = solve(task["problem_id"], task["parameters"]), "complete"
        except Exception as error:  # noqa: BLE001 - whatever the work raises is the task's failure
            answer, path = {"error": repr(error)}, "fail"
        report(session, f"{address}/{path}", answer)
        print(f"{task['id']} {task['problem_id']}: {path}", flush=True)


def report(session, address, answer):
    """Until it is heard, or refused because the task was given to somebody else or cancelled meanwhile."""
    while True:
        try:
            if session.post(address, json=answer, timeout=30).status_code < 500:
                return
        except requests.RequestException as error:
            print(error, flush=True)
        time.sleep(2)


def send_heartbeats(worker_id):
    while True:
        try:
            requests.post(f"{API}/workers/{worker_id}/heartbeat", json={"status": "idle"}, timeout=30)
        except requests.RequestException as error:
            print(error, flush=True)
        time.sleep(HEARTBEAT_SECONDS)


if __name__ == "__main__":
    main(*sys.argv[1:])
