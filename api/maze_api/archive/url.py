"""DATABASE_URL as libpq takes it. Pure."""

from __future__ import annotations

import re
from typing import Any

import psycopg
from psycopg.conninfo import conninfo_to_dict

EXPECTED = "postgresql://USER:PASSWORD@HOST:5432/DATABASE"
_SCHEME = re.compile(r"(postgres|postgresql)(\+[a-z0-9_]+)?://", re.IGNORECASE)
DEFAULTS: dict[str, Any] = {"connect_timeout": 5, "application_name": "maze-api"}


def parse_url(url: str) -> dict[str, Any]:
    """Parameters of the connection: `{"host", "port", "user", "password", "dbname", …}`, those that are given.

    `postgres://` and `postgresql://` are the same, a driver behind a plus is left out, and what libpq knows may come as
    options (`?sslmode=require`). Without a host: the socket of this machine.

    Raises:
        ValueError: it can't be one; the text does not hold the password.
    """
    found = _SCHEME.match(url)
    if found is None:
        scheme = url.partition("://")[0] if "://" in url else ""
        said = f"'{scheme}://…'" if re.fullmatch(r"[A-Za-z0-9+.-]{1,30}", scheme) else "no URL"
        raise ValueError(f"DATABASE_URL is {said}, but must be like {EXPECTED}")
    try:
        given = conninfo_to_dict("postgresql://" + url[found.end() :])
    except psycopg.Error as error:
        reason = _without_values(str(error))
        raise ValueError(f"DATABASE_URL can't be read: {reason}; it must be like {EXPECTED}") from None
    for port in str(given.get("port", "")).split(","):
        if port and not (port.isdigit() and 0 < int(port) < 65536):
            raise ValueError(f"DATABASE_URL names a port that is none; it must be like {EXPECTED}")
    return {**DEFAULTS, **given}


def _without_values(text: str) -> str:
    """What libpq says, without the part of the URL that it quotes: there may be a password in it."""
    return re.sub(r':? "[^"]*"', "", text.strip().splitlines()[0]) if text.strip() else "it is malformed"
