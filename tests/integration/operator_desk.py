"""Who calls the running operator as the api does: the cluster, the object store, and one HTTP session."""

from __future__ import annotations

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

    def close(self) -> None:
        self.store.close()
        self.session.close()
        self.cluster.close()
