"""`python -m maze_runner.build_pyz OUT.pyz`: the runner and cloudpickle as one file for images without Maze.

The same sources always give the same bytes: the operator names the ConfigMap that delivers it by its content. Not
compressed, as small images may have no zlib.
"""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

_MAIN = b"import sys\nfrom maze_runner.main import main\nsys.exit(main())\n"
_LEFT_OUT = {"build_pyz.py", "__main__.py"}


def build_archive() -> bytes:
    """The zipapp, to be started with `python3 -I -S`."""
    import cloudpickle

    files = {"__main__.py": _MAIN}
    for package in (Path(__file__).parent, Path(cloudpickle.__file__).parent):
        for path in package.rglob("*.py"):
            if package.name != "maze_runner" or path.name not in _LEFT_OUT:
                files[f"{package.name}/{path.relative_to(package).as_posix()}"] = path.read_bytes()
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as zipped:
        for name in sorted(files):
            entry = zipfile.ZipInfo(name, date_time=(1980, 1, 1, 0, 0, 0))
            entry.create_system = 3
            entry.external_attr = 0o644 << 16
            zipped.writestr(entry, files[name])
    return archive.getvalue()


def main() -> int:
    if len(sys.argv) != 2:
        sys.stderr.write("usage: python -m maze_runner.build_pyz OUT.pyz\n")
        return 2
    Path(sys.argv[1]).write_bytes(build_archive())
    return 0


if __name__ == "__main__":
    sys.exit(main())
