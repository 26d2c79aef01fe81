"""kubectl against the cluster that is being brought up."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .sh import attempt, run


@dataclass(frozen=True)
class Kubectl:
    """`program`: path of kubectl. `kubeconfig`: None means the user's own KUBECONFIG and context."""

    program: str
    kubeconfig: Path | None = None
    context: str | None = None

    def _argv(self, arguments: Sequence[str | Path]) -> list[str | Path]:
        options = [f"--kubeconfig={self.kubeconfig}"] if self.kubeconfig else []
        options += [f"--context={self.context}"] if self.context else []
        return [self.program, *options, *arguments]

    def run(self, *arguments: str | Path, stdin: str | None = None, hint: str = "") -> str:
        """The output of kubectl. Raises ClusterError if it fails."""
        return run(self._argv(arguments), stdin=stdin, hint=hint)

    def attempt(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """The outcome of kubectl, whatever it is."""
        return attempt(self._argv(arguments))

    def get(self, *arguments: str) -> Any:
        """The parsed JSON of `kubectl get …`, or None where there is no such object."""
        return json.loads(self.run("get", "--ignore-not-found", "-o", "json", *arguments) or "null")

    def get_items(self, *arguments: str) -> list[Any]:
        """The items of `kubectl get …`; kubectl prints nothing at all where there are none."""
        found = self.get(*arguments)
        return found["items"] if found else []

    def apply(self, manifest: dict[str, Any]) -> None:
        """Apply one object, on standard input: a secret never shows in a process list."""
        self.run("apply", "--server-side", "--field-manager=maze-cluster", "-f", "-", stdin=json.dumps(manifest))
