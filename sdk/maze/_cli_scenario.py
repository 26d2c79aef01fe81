"""`maze scenario`: the catalogue of scenarios, and runs of them with their progress."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Dict, List

import typer
from rich.console import Console
from rich.table import Column, Table

from maze._errors import MazeError
from maze._scenarios import Scenarios

app = typer.Typer(no_args_is_help=True, help="Scenarios: tools of MCP servers, step by step.")
out = Console(soft_wrap=True)

SERVER = typer.Option("http://localhost:8000", "--server", "-s", envvar="MAZE_SERVER", help="Address of the Maze API.")
FILES = typer.Argument(help="JSON files with a scenario definition each.")
INPUT = typer.Option(
    [],
    "--input",
    "-i",
    metavar="KEY=VALUE|JSON",
    help="One input, or a JSON object of them; can be repeated. A value is JSON where it can be, and the input is no text.",
)
Json = Dict[str, Any]


class InputError(MazeError, ValueError):
    """A file or an input on the command line is not what it must be."""


@app.command()
def apply(files: List[Path] = FILES, server: str = SERVER) -> None:
    """Make the scenarios of FILES, or replace those of the same scenario_id."""
    scenarios = Scenarios(server)
    for file, definition in [(file, read_definition(file)) for file in files]:
        made = scenarios.apply(definition)
        out.print(f"scenario {made['scenario_id']} from {file}", highlight=False, markup=False)


@app.command("list")
def list_scenarios(server: str = SERVER) -> None:
    """List scenarios."""
    table = Table(Column("SCENARIO", no_wrap=True), "NAME", "INPUT", "DESCRIPTION", box=None)
    for each in Scenarios(server).list():
        known = ", ".join((each["input_schema"].get("properties") or {}))
        table.add_row(*(_plain(text) for text in (each["scenario_id"], each["name"], known, each["description"])))
    out.print(table)


@app.command()
def show(scenario_id: str, server: str = SERVER) -> None:
    """Print the definition of a scenario."""
    typer.echo(json.dumps(Scenarios(server).get(scenario_id), indent=2, ensure_ascii=False))


@app.command()
def run(scenario_id: str, given: List[str] = INPUT, server: str = SERVER) -> None:
    """Run a scenario and show its progress."""
    scenarios = Scenarios(server)
    schema = scenarios.get(scenario_id).get("input_schema") or {}
    run_id = scenarios.run(scenario_id, read_inputs(given, schema))
    out.print(f"run {run_id}", highlight=False)
    status = ""
    for event in scenarios.events(run_id):
        status = event.get("status", "")
        if line := describe(event):
            out.print(line, highlight=False, markup=False)
    if status != "success":
        raise typer.Exit(1)


def describe(event: Json) -> str:
    """One line for a person; empty for what needs none."""
    kind, message = event["type"], event.get("message") or ""
    said = f": {message}" if message else ""
    if kind == "step_started":
        return f"  {event['index'] + 1}. {event['step_name']} …"
    if kind == "step_finished":
        mark = "✓" if event["status"] == "success" else "✗"
        return f"{mark} {event['index'] + 1}. {event['step_name']} {event['status']}{said}"
    return f"run {event['status']}{said}" if kind == "run_finished" else ""


def read_definition(file: Path) -> Json:
    """Raises: InputError, where it is no JSON object; says where."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"'{file}' can't be read: {error.strerror}") from error
    except ValueError as error:
        raise InputError(f"'{file}' is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"'{file}' is not a scenario definition, which is a JSON object")
    return found


def read_inputs(given: List[str], schema: Json) -> Json:
    """The inputs that the command line gives: `KEY=VALUE`, or a JSON object.

    Args:
        schema: the scenario's input_schema; where it says that an input is a text, it is taken as it is.

    Raises:
        InputError: neither.
    """
    properties = schema.get("properties") or {}
    found: Json = {}
    for text in given:
        if text.lstrip().startswith("{"):
            parsed = _parsed(text)
            if not isinstance(parsed, dict):
                raise InputError(f"--input {text}: that is not a JSON object")
            found.update(parsed)
            continue
        key, separator, value = text.partition("=")
        if not separator or not key:
            raise InputError(f"--input {text}: write KEY=VALUE, or a JSON object")
        declared = properties.get(key)
        is_text = isinstance(declared, dict) and declared.get("type") == "string"
        found[key] = value if is_text else _parsed(value)
    return found


def _parsed(text: str) -> Any:
    """The JSON value, or the text itself where it is none."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _plain(text: str) -> str:
    return text.replace("[", r"\[")
