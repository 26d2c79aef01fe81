"""Who calls the running operator as the api does: the cluster, the object store, and one HTTP session."""

from __future__ import annotations

import time
from typing import Any

import requests

from cluster import Cluster
from maze_io.store import ObjectStore, StoreSettings
from own_api import cluster_env

SECONDS = 120.0
"""How long anything here may take that takes a moment on an idle machine."""

Json = dict[str, Any]


class OperatorDesk:
    """`url` is the operator's, `api_token` opens it."""

    def __init__(self, namespace: str) -> None:
        env = cluster_env()
        self.cluster = Cluster(namespace)
        self.namespace, self.url, self.api_token = namespace, env["MAZE_REPORT_URL"], env["MAZE_API_TOKEN"]
        self.session = requests.Session()
        self.session.trust_env = False
        self.session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=16))
        self.store = ObjectStore(StoreSettings.from_env(env))

    def send(self, path: str, data: bytes, token: str | None) -> requests.Response:
        """A POST of JSON, said again while the operator asks for that or is being replaced. None: without a token."""
        headers = {"Content-Type": "application/json"}
        headers |= {} if token is None else {"Authorization": f"Bearer {token}"}
        deadline = time.monotonic() + SECONDS
        while True:
            try:
                answer = self.session.post(self.url + path, data=data, headers=headers, timeout=30)
                if answer.status_code != 503 or time.monotonic() > deadline:
                    return answer
                assert answer.headers["Retry-After"] == "1"
            except (requests.ConnectionError, requests.Timeout):
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.2)

    def close(self) -> None:
        self.store.close()
        self.session.close()
        self.cluster.close()
