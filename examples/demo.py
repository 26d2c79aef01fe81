"""What `make demo` runs: which of this repository's own files are most alike, and what is in them?

Each task is a pod. The files (*.py, *.md) are split in chunks; one task per chunk counts lines and words and finds the
words that are special to each file; tasks of another kind compress pairs of files together, because two texts that
share much compress well in one (normalised compression distance); a last task merges everything.

          ┌─ count 1 ─┐
    files ┼─ count 2 ─┼──────────┐
          └─ count 3 ─┘          ├─ merge ─ report
          ┌─ compare 1 ─┐        │
          └─ compare 2 ─┴────────┘
"""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

from maze import MaClient, MaTask, MaWorkflow, MazeError, task

ROOT = Path(__file__).resolve().parents[1]
HIDDEN = {".venv", ".cluster", ".git", "build", "dist", "node_modules"}
COUNT_TASKS = 3
COMPARE_TASKS = 2
COMPARED_FILES = 120
TEXT_LIMIT = 12_000
"""Characters of each file that are looked at."""

Files = dict[str, str]


@task(inputs=["files"], outputs=["rows", "words"])
def count(params: dict[str, Any]) -> dict[str, Any]:
    """Lines, words and bytes of each file, and how often each word that is not Python's own occurs in all of them."""
    import builtins
    import collections
    import keyword
    import re

    pythons = {word.lower() for word in [*keyword.kwlist, *dir(builtins), "self"]}

    rows: list[dict[str, Any]] = []
    words: collections.Counter[str] = collections.Counter()
    for name, text in params["files"].items():
        found = re.findall(r"[A-Za-z]{4,}", text.lower())
        words.update(word for word in found if word not in pythons)
        rows.append({"file": name, "lines": text.count("\n"), "words": len(found), "bytes": len(text.encode())})
    print(f"counted {len(rows)} files")
    return {"rows": rows, "words": dict(words)}


@task(inputs=["files", "part", "parts"], outputs=["pairs"])
def compare(params: dict[str, Any]) -> dict[str, Any]:
    """Normalised compression distance (0: the same, 1: nothing in common) of this task's share of all pairs."""
    import itertools
    import zlib

    texts = {name: text.encode() for name, text in params["files"].items()}
    alone = {name: len(zlib.compress(text, 9)) for name, text in texts.items()}
    pairs = []
    for number, (a, b) in enumerate(itertools.combinations(sorted(texts), 2)):
        if number % params["parts"] == params["part"]:
            together = len(zlib.compress(texts[a] + texts[b], 9))
            distance = (together - min(alone[a], alone[b])) / max(alone[a], alone[b])
            pairs.append([round(distance, 3), a, b])
    print(f"compared {len(pairs)} pairs")
    return {"pairs": sorted(pairs)[:20]}


def make_merge() -> Any:
    """The merge takes as many inputs as there are tasks before it."""
    counted = [f"{kind}{number}" for number in range(COUNT_TASKS) for kind in ("rows", "words")]
    compared = [f"pairs{number}" for number in range(COMPARE_TASKS)]

    @task(inputs=[*counted, *compared], outputs=["totals", "largest", "words", "alike"])
    def merge(params: dict[str, Any]) -> dict[str, Any]:
        import collections

        rows = [row for key, value in params.items() if key.startswith("rows") for row in value]
        words: collections.Counter[str] = collections.Counter()
        for key, value in params.items():
            if key.startswith("words"):
                words.update(value)
        pairs = sorted(pair for key, value in params.items() if key.startswith("pairs") for pair in value)
        totals = {name: sum(row[name] for row in rows) for name in ("lines", "words", "bytes")}
        return {
            "totals": {"files": len(rows), **totals},
            "largest": sorted(rows, key=lambda row: -row["lines"])[:5],
            "words": [[word, times] for word, times in words.most_common(8)],
            "alike": pairs[:8],
        }

    return merge


def read_files() -> Files:
    """This repository's own texts, relative path → content."""
    found = {}
    for folder, folders, files in os.walk(ROOT):
        folders[:] = sorted(set(folders) - HIDDEN)
        for path in (Path(folder, name) for name in sorted(files)):
            if path.suffix in (".py", ".md") and (text := path.read_text(errors="replace")).strip():
                found[path.relative_to(ROOT).as_posix()] = text
    return found


def build(workflow: MaWorkflow, files: Files) -> tuple[dict[str, str], MaTask]:
    """Add all tasks; the readable name of each task id, and the task whose outputs are the result."""
    names = sorted(files)
    inputs: dict[str, Any] = {}
    labels: dict[str, str] = {}
    largest = sorted(names, key=lambda name: -len(files[name]))[:COMPARED_FILES]
    excerpts = {name: files[name][:TEXT_LIMIT] for name in largest}
    for number in range(COMPARE_TASKS):
        label = f"compare {number + 1}"
        added = workflow.add_task(compare, {"files": excerpts, "part": number, "parts": COMPARE_TASKS}, task_name=label)
        labels[added.task_id] = label
        inputs[f"pairs{number}"] = added.outputs["pairs"]
    for number in range(COUNT_TASKS):
        label = f"count {number + 1}"
        chunk = {name: files[name] for name in names[number::COUNT_TASKS]}
        added = workflow.add_task(count, {"files": chunk}, task_name=label)
        labels[added.task_id] = label
        inputs[f"rows{number}"] = added.outputs["rows"]
        inputs[f"words{number}"] = added.outputs["words"]
    last = workflow.add_task(make_merge(), inputs, task_name="merge")
    labels[last.task_id] = "merge"
    return labels, last


def watch(workflow: MaWorkflow, run_id: str, labels: dict[str, str]) -> list[str]:
    """Print the run as it goes; what failed, in words."""
    began = time.monotonic()
    problems = []
    for message in workflow.events(run_id):
        data = message["data"]
        at = f"{time.monotonic() - began:6.1f} s"
        label = labels.get(data.get("task_id", ""), "")
        if message["type"] == "start_task":
            print(f"{at}  ▶ {label:<10} on node {data['node_ip']}", flush=True)
        elif message["type"] == "finish_task":
            print(f"{at}  ✓ {label}", flush=True)
        elif message["type"] == "task_exception":
            print(f"{at}  ❌ {label}", flush=True)
            problems.append(f"task '{label}' failed:\n{data['result']}")
        elif data["status"] != "Succeeded" and not problems:
            problems.append(f"the run ended as {data['status']}")
    print(f"{at}  finished", flush=True)
    return problems


def report(result: dict[str, Any]) -> None:
    totals = result["totals"]
    print(f"\n{totals['files']} files, {totals['lines']:,} lines, {totals['words']:,} words, {totals['bytes']:,} bytes")
    print("\nLongest files")
    for row in result["largest"]:
        print(f"  {row['lines']:>6} lines  {row['words']:>6} words  {row['file']}")
    print("\nMost frequent words: " + ", ".join(f"{word} ({times})" for word, times in result["words"]))
    print("\nMost alike (0: the same, 1: nothing in common)")
    for distance, a, b in result["alike"]:
        print(f"  {distance:.3f}  {a}  ~  {b}")


def look_further(run_id: str) -> None:
    print(f"""
Look further
  eval "$(.venv/bin/python -m maze_cluster env)"      # KUBECONFIG, and kubectl on the PATH
  kubectl get runs -n maze
  kubectl get pods -n maze -l maze.dev/run={run_id}
  kubectl logs -n maze -l maze.dev/run={run_id} --prefix --tail=-1""")


def main() -> int:
    try:
        files = read_files()
        print(f"Which of {len(files)} files of this repository are alike? Each task below is a pod.\n")
        workflow = MaClient(os.environ.get("MAZE_API", "http://127.0.0.1:8000")).create_workflow()
        labels, last = build(workflow, files)
        run_id = workflow.run()
        problems = watch(workflow, run_id, labels)
        if problems:
            print("\n".join(problems), file=sys.stderr)
            look_further(run_id)
            return 1
        result = workflow.get_task_result(run_id, last.task_id)
        assert result is not None
        report(result)
        look_further(run_id)
    except MazeError as error:
        print(f"demo: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
