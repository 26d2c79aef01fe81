"""Forms of DATABASE_URL, and how long failures are waited for."""

from __future__ import annotations

import pytest

from maze_api.archive.archiver import BACKOFF_SECONDS, Delay, longer
from maze_api.archive.url import DEFAULTS, parse_url
from maze_api.settings import Settings

STORE = {
    "MAZE_S3_ENDPOINT": "http://s3",
    "MAZE_S3_BUCKET": "b",
    "MAZE_S3_ACCESS_KEY": "k",
    "MAZE_S3_SECRET_KEY": "s",
}


@pytest.mark.parametrize(
    "scheme", ["postgres", "postgresql", "postgresql+asyncpg", "postgresql+psycopg2", "PostgreSQL"]
)
def test_all_forms_of_a_url_are_the_same(scheme: str) -> None:
    found = parse_url(f"{scheme}://user:p%40ss@db.example:6543/tasks?sslmode=require")
    assert found == {
        **DEFAULTS,
        "user": "user",
        "password": "p@ss",
        "host": "db.example",
        "port": "6543",
        "dbname": "tasks",
        "sslmode": "require",
    }


def test_what_a_url_says_goes_before_our_defaults() -> None:
    assert parse_url("postgres://h/d?connect_timeout=30")["connect_timeout"] == "30"


@pytest.mark.parametrize(
    "url", ["postgres://a,b:5433/d", "postgresql:///d", "postgresql://%2Fvar%2Frun/d", "postgres://[::1]/d"]
)
def test_whatever_libpq_takes_is_taken(url: str) -> None:
    assert parse_url(url)["dbname"] == "d"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("mysql://u:secret@h/d", "mysql"),
        ("u:secret@h/d", "no URL"),
        ("secret", "no URL"),
        ("postgresql://u:secret@h:none/d", "port"),
        ("postgresql://u:secret@h:70000/d", "port"),
        ("postgresql://u:secret@h/d?colour=blue", "can't be read"),
        ("postgresql://u:%zzsecret@h/d", "can't be read"),
        ("postgresql://[secret/d", "can't be read"),
    ],
)
def test_a_wrong_url_is_refused_without_telling_its_password(url: str, said: str) -> None:
    with pytest.raises(ValueError, match="DATABASE_URL") as refused:
        Settings.from_env({**STORE, "DATABASE_URL": url})
    assert said in str(refused.value)
    assert "secret" not in str(refused.value)
    assert "postgresql://USER" in str(refused.value)


def test_no_url_is_no_archive() -> None:
    assert Settings.from_env(STORE).database_url is None
    assert Settings.from_env({**STORE, "DATABASE_URL": ""}).database_url is None


def test_failures_are_waited_for_longer_and_longer_up_to_a_bound() -> None:
    delay: Delay | None = None
    waited = []
    for _ in range(10):
        delay = longer(delay, 100.0)
        waited.append(delay.until - 100.0)
    assert waited[:4] == [0.5, 1.0, 2.0, 4.0]
    assert waited[-1] == BACKOFF_SECONDS[1]
