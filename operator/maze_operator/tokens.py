"""Proof that a request comes from a pod that the operator made (HMAC-SHA256 of "NAMESPACE/POD" in hex), from the container
of an OpRun (of "NAMESPACE/op-run/UID"), or from the api."""

from __future__ import annotations

import hashlib
import hmac


def make_token(key: bytes, namespace: str, pod: str) -> str:
    return hmac.new(key, f"{namespace}/{pod}".encode(), hashlib.sha256).hexdigest()


def make_run_token(key: bytes, namespace: str, run_uid: str) -> str:
    """For the container of an OpRun, to post events to it. No pod has such a name."""
    return make_token(key, namespace, f"op-run/{run_uid}")


def token_fits(key: bytes, namespace: str, pod: str, authorization: str) -> bool:
    """`authorization`: the header as it came, "Bearer HEX"."""
    return bearer_fits(make_token(key, namespace, pod), authorization)


def bearer_fits(token: str, authorization: str) -> bool:
    """In constant time. An empty token fits nothing."""
    return bool(token) & hmac.compare_digest(f"Bearer {token}".encode(), authorization.encode(errors="surrogateescape"))
