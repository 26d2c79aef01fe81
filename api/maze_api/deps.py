"""What the routes work with, made once per process and handed to them by FastAPI."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends
from starlette.requests import HTTPConnection

from maze_api.cache import Runs
from maze_api.drafts import Drafts
from maze_api.settings import Settings
from maze_io.store import AsyncStore


@dataclass(slots=True)
class Services:
    """Clients and caches of this process.

    Attributes:
        problem: why the watch of Runs has ended for good (a fault of ours), or None.
    """

    settings: Settings
    store: AsyncStore
    runs: Runs
    drafts: Drafts
    problem: str | None = None


def services(connection: HTTPConnection) -> Services:
    found: Services = connection.app.state.services
    return found


ServicesDep = Annotated[Services, Depends(services)]


def drafts(found: ServicesDep) -> Drafts:
    return found.drafts


DraftsDep = Annotated[Drafts, Depends(drafts)]
