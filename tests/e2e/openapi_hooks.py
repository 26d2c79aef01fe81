"""Loaded by Schemathesis: about every second call is about things that exist, so that it gets beyond "not found".

KNOWN in the environment: JSON of `[[regular expression of paths, name of a parameter or field, value], …]`.
"""

from __future__ import annotations

import json
import os
import re
import zlib
from typing import Any

import schemathesis

KNOWN: list[tuple[str, str, str]] = [tuple(entry) for entry in json.loads(os.environ["KNOWN"])]
MOST_WORKERS = 3


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: Any) -> None:
    body = case.body if isinstance(case.body, dict) else None
    if body is not None and isinstance(body.get("num_workers"), int):
        body["num_workers"] = min(body["num_workers"], MOST_WORKERS)  # each is an object in the cluster
    said = repr((case.method, case.path, case.path_parameters, case.query, case.body))
    if case.method == "DELETE" or zlib.crc32(said.encode(errors="replace")) % 2:
        return
    for pattern, name, value in KNOWN:
        if re.fullmatch(pattern, case.path):
            for place in (case.path_parameters, body):
                if place and name in place:
                    place[name] = value
