"""A program for an OpRun, to copy from: it reads its inputs, tells how far it is, and leaves its outputs.

Standard library only; nothing of Maze is needed in an image. What it does, its inputs say, each of which may be left out:

    steps, seconds   so many steps of so many seconds; progress is told after each
    echo             any JSON, found again in the outputs
    exit_code        ends with this code
    fail             ends with code 1 and this text as the reason
    fail_attempts    the attempts up to this number fail
    allocate_mb      takes so much memory
    report           "COMPLETED" or "FAILED": says so by an event, then lives on for `linger` seconds
    stubborn         ignores being asked to end
"""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import urllib.error
import urllib.request
from typing import Any
from urllib.parse import parse_qs, urlsplit

EVENTS_URL = os.environ["MAZE_EVENTS_URL"]
ATTEMPT = int(parse_qs(urlsplit(EVENTS_URL).query)["attempt"][0])
TERMINATION_LOG = "/dev/termination-log"
"""Where Kubernetes reads an ended container's last words from: at most 4096 bytes; larger outputs go with COMPLETED."""


def main() -> int:
    inputs = read_inputs()
    signal.signal(signal.SIGTERM, signal.SIG_IGN if inputs.get("stubborn") else lambda *_: sys.exit(143))
    steps = int(inputs.get("steps", 0))
    for step in range(1, steps + 1):
        time.sleep(inputs.get("seconds", 0))
        post("PROGRESS", step, 100 * step // steps)
    held = b"x" * (int(inputs.get("allocate_mb", 0)) << 20)
    outputs = {"steps": steps, "attempt": ATTEMPT, "allocated": len(held), "echo": inputs.get("echo")}

    if report := inputs.get("report"):
        payload = {"outputs": outputs} if report == "COMPLETED" else {"error_message": inputs.get("fail", "it failed")}
        post(report, steps + 1, "the program says so", payload)
        time.sleep(inputs.get("linger", 0))
        return 0
    if "exit_code" in inputs:
        return int(inputs["exit_code"])
    if "fail" in inputs or int(inputs.get("fail_attempts", 0)) >= ATTEMPT:
        leave(inputs.get("fail", f"attempt {ATTEMPT} fails"))
        return 1
    leave(json.dumps(outputs))
    return 0


def read_inputs() -> dict[str, Any]:
    """Small inputs are in the environment; large ones are behind a URL that needs no token."""
    if url := os.environ.get("MAZE_INPUTS_URL"):
        with urllib.request.urlopen(url, timeout=60) as answer:
            return json.load(answer)
    return json.loads(os.environ["MAZE_INPUTS"])


def leave(text: str) -> None:
    """The outputs of a container that succeeds (a JSON object), or the reason of one that fails."""
    with open(TERMINATION_LOG, "w") as file:
        file.write(text)


def post(kind: str, number: int, msg: str | int = "", payload: dict[str, Any] | None = None) -> None:
    """Add an event to the timeline. Said again until it is heard; the key makes a repeat count once."""
    body = {"type": kind, "msg": msg, "payload": payload, "key": f"{ATTEMPT}/{number}"}
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {os.environ['MAZE_TOKEN']}"}
    request = urllib.request.Request(EVENTS_URL, json.dumps(body).encode(), headers, method="POST")
    while True:
        try:
            urllib.request.urlopen(request, timeout=30).close()
            return
        except urllib.error.HTTPError as refusal:
            # 400: the run has ended, or the event is wrong; 409: a newer attempt has taken over.
            if refusal.code != 503:
                raise SystemExit(f"{kind} was refused: {refusal.code} {refusal.read().decode()}") from None
            time.sleep(float(refusal.headers.get("Retry-After", 1)))
        except OSError as error:
            print(f"{kind} is not heard ({error}); again in a second", flush=True)
            time.sleep(1)


if __name__ == "__main__":
    sys.exit(main())
