"""Presigned URLs are those that botocore makes."""

from __future__ import annotations

from datetime import UTC, datetime
from unittest.mock import patch
from urllib.parse import quote

import pytest
from botocore import auth
from botocore.auth import S3SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st

from maze_io.presign import Presigner

KEYS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=40)
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))


def botocores(endpoint: str, method: str, key: str, seconds: int, now: datetime) -> str:
    request = AWSRequest(method=method, url=f"{endpoint}/bucket/{quote(key, safe='/-_.~')}")
    signer = S3SigV4QueryAuth(Credentials("me/+", "secret"), "s3", "eu-west-3", expires=seconds)
    with patch.object(auth, "get_current_datetime", lambda: now.replace(tzinfo=None)):
        signer.add_auth(request)
    url: str = request.url
    return url


@pytest.mark.parametrize(
    "endpoint", ["http://s3.example:7070", "https://s3.example", "https://s3.example:443", "http://s3.example/below"]
)
@given(KEYS, st.sampled_from(["GET", "PUT"]), st.integers(1, 604800), TIMES)
def test_they_are_equal(endpoint: str, key: str, method: str, seconds: int, now: datetime) -> None:
    made = Presigner(endpoint, "bucket", "me/+", "secret", "eu-west-3").presign(method, key, seconds, now)
    assert made == botocores(endpoint, method, key, seconds, now)
