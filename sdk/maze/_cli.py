"""The program `maze`: run workflows and look after them from the command line. Exit codes: 0 well, 1 not, 2 wrong usage."""

from __future__ import annotations

import importlib.util
import os
import sys
import traceback
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import typer
from rich.console import Console
from rich.table import Column, Table

from maze import _cli_scenario, _graph
from maze._client import MaClient
from maze._errors import MazeError
from maze._workflow import MaWorkflow
from maze.testing import LocalClient

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Run Maze workflows and look after them.")
app.add_typer(_cli_scenario.app, name="scenario")
out = Console(soft_wrap=True)

ID_WIDTH = 36
"""Characters of an id: never cut, so that it can be copied."""
SERVER = typer.Option("http://localhost:8000", "--server", "-s", envvar="MAZE_SERVER", help="Address of the Maze API.")
RUN = typer.Argument(help="Id of a run, or the beginning of one.")
FILE = typer.Argument(help="Python file with `workflow = ...`, or `def main(client)` that returns a workflow.")


class UsageError(MazeError):
    """The command line asks for what there is not; the text says what there is."""


@app.command()
def run(file: Path = FILE, server: str = SERVER, output_dir: str = "workflow_results") -> None:
    """Run the workflow of FILE and show its progress and results."""
    workflow = load_workflow(file, MaClient(server))
    run_id = workflow.run()
    out.print(f"run {run_id}", highlight=False)
    summary = workflow.show_results(run_id, output_dir)
    if summary["has_exception"] or not summary["workflow_completed"]:
        raise typer.Exit(1)
    if MaClient(server).get_run(run_id)["status"] != "Succeeded":
        raise typer.Exit(1)


@app.command()
def ls(server: str = SERVER, limit: int = typer.Option(20, help="How many, the newest first.")) -> None:
    """List runs."""
    table = Table(Column("RUN", min_width=ID_WIDTH), "STATUS", "PROGRESS", "FAILED", "CREATED", box=None)
    for each in MaClient(server).runs(limit):
        failed = str(each["counts"].get("failed", 0))
        table.add_row(each["run_id"], each["status"], each["progress"], failed, str(each["created_at"]))
    out.print(table)


@app.command()
def get(run_id: str = RUN, server: str = SERVER) -> None:
    """Show one run with its tasks, and why they wait or failed."""
    found = find_run(MaClient(server), run_id)
    out.print(f"{found['run_id']}  {found['status']}  {found.get('message') or ''}", highlight=False, markup=False)
    table = Table(Column("TASK", min_width=ID_WIDTH), "NAME", "STATUS", "ATTEMPT", "REASON", "MESSAGE", box=None)
    for task in found["tasks"]:
        row = (task["task_id"], task["name"], task["status"], task["attempt"], task["reason"], task["message"])
        table.add_row(*(_shown(value) for value in row))
    out.print(table)


@app.command()
def logs(
    run_id: str = RUN,
    task: Optional[str] = typer.Argument(None, help="Id or name of a task; not needed where there is one only."),
    follow: bool = typer.Option(False, "--follow", "-f", help="Go on until the task has ended."),
    server: str = SERVER,
) -> None:
    """Print what a task printed."""
    client = MaClient(server)
    found = find_run(client, run_id)
    for line in client.logs(found["run_id"], find_task(found, task), follow=follow):
        typer.echo(line)


@app.command()
def cancel(run_id: str = RUN, server: str = SERVER) -> None:
    """Stop a run."""
    client = MaClient(server)
    found = find_run(client, run_id)
    client.cancel(found["run_id"])
    typer.echo(f"run {found['run_id']} is being cancelled")


@app.command()
def graph(
    target: str = typer.Argument(help="A Python file as for `run`, or the id of a run."),
    mermaid: bool = typer.Option(False, help="Mermaid instead of text."),
    server: str = SERVER,
) -> None:
    """Show the tasks and their dependencies."""
    if target.endswith(".py"):
        workflow = load_workflow(Path(target), LocalClient())  # a graph needs no server
        if mermaid:
            typer.echo(workflow.get_graph_mermaid())
        else:
            workflow.print_graph()
        return
    nodes, edges = run_graph(find_run(MaClient(server), target))
    typer.echo(_graph.mermaid(nodes, edges) if mermaid else _graph.text(nodes, edges))


@app.command()
def doctor(server: str = SERVER) -> None:
    """Find out what is wrong with this set-up: reachability, versions, S3, Kubernetes, operator."""
    here = f"{sys.version_info[0]}.{sys.version_info[1]}"
    info = MaClient(server).info()
    rows = [("api", True, f"{server} answers, version {info['version']}")]
    rows += [(name, bool(check["ok"]), str(check["detail"])) for name, check in info["checks"].items()]
    same = info["python"] == here
    advice = "" if same else f"; use Python {info['python']} here, or @task(image=...) with Python {here}"
    rows.append(("python", same, f"{here} here, {info['python']} in the image of tasks{advice}"))
    for name, fine, detail in rows:
        out.print(f"{'✓' if fine else '✗'} {name:<12}{detail}", highlight=False, markup=False)
    if not all(fine for _, fine, _ in rows):
        raise typer.Exit(1)


def load_workflow(file: Path, client: MaClient) -> MaWorkflow:
    """Execute `file` and take its workflow.

    Raises:
        UsageError: no such file, no workflow in it, or it fails; names its line.
    """
    name = f"maze_file_{file.stem}"  # a name of its own: a file may be called like a module that others import
    spec = importlib.util.spec_from_file_location(name, file) if file.is_file() else None
    if spec is None or spec.loader is None:
        raise UsageError(f"there is no Python file '{file}'")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, os.fspath(file.parent.resolve()))
    try:
        spec.loader.exec_module(module)
        main = getattr(module, "main", None)
        found = main(client) if callable(main) else getattr(module, "workflow", None)
    except MazeError:
        raise
    except Exception as error:
        raise UsageError(f"{_place(file, error)}: {type(error).__name__}: {error}") from error
    if not isinstance(found, MaWorkflow):
        raise UsageError(f"'{file}' has neither `def main(client)` that returns a workflow, nor `workflow = ...`")
    return found


def _place(file: Path, error: Exception) -> str:
    """The last line of the user's file that led to an error."""
    if isinstance(error, SyntaxError):
        return f"{file}, line {error.lineno}"
    own = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if Path(frame.filename).name == file.name
    ]
    return f"{file}, line {own[-1]}" if own else f"{file} (main takes one argument: the client)"


def find_run(client: MaClient, run_id: str) -> Dict[str, Any]:
    """The run with this id, or the only one that begins so.

    Raises:
        UsageError: several do.
        UnknownRun: none does.
    """
    if len(run_id) < 36:
        matches = [each["run_id"] for each in client.runs(limit=500) if each["run_id"].startswith(run_id)]
        if len(matches) > 1:
            raise UsageError(f"several runs begin with '{run_id}': {', '.join(matches[:5])}; give more of the id")
        run_id = matches[0] if matches else run_id
    return client.get_run(run_id)


def find_task(run: Dict[str, Any], wanted: Optional[str]) -> str:
    """Id of a task by its id or name.

    Raises:
        UsageError: none or several; names what there is.
    """
    tasks = run["tasks"]
    matches = [task["task_id"] for task in tasks if wanted in (None, task["task_id"], task["name"])]
    if len(matches) != 1:
        names = ", ".join(f"{task['name']} ({task['task_id']})" for task in tasks[:20])
        what = "name one task" if wanted is None else f"{len(matches)} tasks are called '{wanted}'"
        raise UsageError(f"{what}; the run has: {names}")
    return str(matches[0])


def run_graph(run: Dict[str, Any]) -> Tuple[Any, List[Tuple[str, str]]]:
    """Nodes and edges of a run as maze._graph takes them."""
    nodes = {
        task["task_id"]: {"name": task["name"], "func_name": task["name"], "inputs": [], "outputs": [], "resources": {}}
        for task in run["tasks"]
    }
    edges = [(source, task["task_id"]) for task in run["tasks"] for source in task["depends_on"]]
    return nodes, edges


def _shown(value: Any) -> str:
    return "" if value is None else str(value).replace("[", r"\[")


def main() -> None:
    """Errors that a user can act on are one line, without a traceback."""
    try:
        app()
    except MazeError as error:
        typer.echo(f"maze: {error}", err=True)
        raise SystemExit(2 if isinstance(error, (UsageError, _cli_scenario.InputError)) else 1) from None
