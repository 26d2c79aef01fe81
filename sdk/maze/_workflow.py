"""A workflow: tasks and edges (`_building`), its runs and their results (`_running`), its graph as text, data and image."""

from __future__ import annotations

from typing import Any, Dict, Optional, Tuple

from maze import _draw, _graph
from maze._backend import Backend
from maze._running import Running


class MaWorkflow(Running):
    """A workflow on the server; made by `MaClient.create_workflow`.

    All methods that talk to the server raise MazeError: ServerUnreachable, or RequestFailed with the server's reason.
    """

    def __init__(self, workflow_id: str, server_url: str, backend: Optional[Backend] = None) -> None:
        super().__init__(workflow_id, server_url, backend)

    def print_graph(self) -> None:
        """Print the tasks and edges that were made through this object."""
        print(_graph.text(self._nodes, list(self._edges)))

    def draw_graph(
        self,
        output_path: str = "workflow.png",
        method: str = "auto",
        figsize: Tuple[float, float] = (12, 8),
        dpi: int = 300,
    ) -> str:
        """Write the graph as an image, and return its path.

        Args:
            output_path: its ending is the format: png, pdf, svg, jpg. Folders are made.
            method: "graphviz", "matplotlib", or "auto": graphviz where it and its program `dot` are there.
            figsize: width and height in inches, for matplotlib.
            dpi: dots per inch of png and jpg.

        Raises:
            DrawingUnavailable: what draws is not installed (it is an ImportError, too).
            InvalidTask: another ending or method.
        """
        return _draw.draw(self._nodes, list(self._edges), output_path, method, figsize, dpi)

    def get_graph_mermaid(self) -> str:
        """The graph in Mermaid's syntax, for https://mermaid.live or a Markdown file."""
        return _graph.mermaid(self._nodes, list(self._edges))

    def get_graph_info(self) -> Dict[str, Any]:
        """`{"nodes": {id: {...}}, "edges": [[id, id]], "stats": {"total_nodes", "total_edges", "max_depth"}}`"""
        return _graph.info(self._nodes, list(self._edges))

    def __repr__(self) -> str:
        return f"MaWorkflow({self.workflow_id!r}, {self.server_url!r})"
