"""`python -m maze_cluster up|down|status|env|kwok`."""

from __future__ import annotations

import argparse
import os
import sys
import time

from . import embedded, existing, kind, kwok
from .errors import ClusterError
from .flavour import Flavour, choose_flavour, probe_machine
from .layout import Layout, build_layout, find_checkout
from .say import format_seconds, say
from .tools import find_bin_dir

DESCRIPTION = """Bring a Kubernetes cluster with Maze up or down. MAZE_CLUSTER=kind|embedded|existing chooses which kind;
the default is kind where a Docker engine and kind are there, else the embedded cluster (Linux, root)."""


def main() -> int:
    """Run the command line; errors that the user can act on are one message and exit code 1."""
    parser = argparse.ArgumentParser(prog="maze_cluster", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start the cluster and everything in it; a second time, repair it")
    up.add_argument(
        "--bare", action="store_true", help="embedded only: Kubernetes, DNS and S3, without operator and api"
    )
    commands.add_parser("down", help="stop it and leave nothing behind")
    commands.add_parser("status", help="say what runs; exit code 1 unless all of it does")
    commands.add_parser("env", help='print shell settings: eval "$(python -m maze_cluster env)"')
    fake = commands.add_parser("kwok", help="embedded only: fake nodes, whose pods end by themselves, for benchmarks")
    fake.add_argument("what", choices=("up", "down"))
    fake.add_argument("count", type=int, nargs="?", default=10, help="how many nodes (10)")
    fake.add_argument(
        "--seconds", type=float, default=kwok.END_SECONDS, help="after which their pods have succeeded (1)"
    )
    arguments = parser.parse_args()
    try:
        layout = build_layout(find_checkout(), os.environ)
        return _run(arguments, layout, choose_flavour(os.environ, probe_machine()))
    except ClusterError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on", file=sys.stderr)
        return 130


def _run(arguments: argparse.Namespace, layout: Layout, flavour: Flavour) -> int:
    if arguments.command == "env":
        return _print_env(layout, flavour)
    if flavour is Flavour.EMBEDDED:
        return _run_embedded(arguments, layout)
    if arguments.command == "kwok":
        raise ClusterError("fake nodes are for the embedded cluster only.")
    module = kind if flavour is Flavour.KIND else existing
    if arguments.command == "up":
        print(module.up(layout, os.environ))
    elif arguments.command == "down":
        module.down(layout)
    else:
        print(module.status(layout))
    return 0


def _run_embedded(arguments: argparse.Namespace, layout: Layout) -> int:
    started = time.monotonic()
    if arguments.command == "up":
        embedded.up(layout, bare=arguments.bare)
        say(f"ready after {format_seconds(time.monotonic() - started)}")
        print(embedded.describe(layout, bare=arguments.bare))
    elif arguments.command == "down":
        embedded.down(layout)
        say(f"stopped after {format_seconds(time.monotonic() - started)}; the build cache {layout.cache} is kept")
    elif arguments.command == "kwok":
        if arguments.what == "up":
            kwok.up(layout, arguments.count, arguments.seconds)
        else:
            kwok.down(layout)
    else:
        rows = embedded.status(layout)
        for name, state in rows:
            print(f"{name:<26}{state}")
        return 0 if all(state == "ready" for _, state in rows) else 1
    return 0


def _print_env(layout: Layout, flavour: Flavour) -> int:
    """Settings for a shell: which cluster kubectl talks to, and where its kubectl is."""
    if flavour is not Flavour.EXISTING:
        print(f"export KUBECONFIG={layout.kubeconfig}")
    if flavour is Flavour.EMBEDDED:
        print(f'export PATH={find_bin_dir(layout)}:"$PATH"')
    return 0


if __name__ == "__main__":
    sys.exit(main())
