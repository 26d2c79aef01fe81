"""A small bundled set of invented news articles, each with the articles that it draws on."""

from __future__ import annotations

import json
import re
from functools import cache
from importlib import resources
from typing import Any

Article = dict[str, Any]
"""{"url", "outlet", "published_at", "title", "text", "cites": [url]}"""

_WORDS = re.compile(r"[a-z0-9]+")
_COMMON = frozenset(
    ["and", "articles", "com", "example", "for", "how", "http", "https", "its", "org", "that", "the", "www"]
)


@cache
def load_articles() -> dict[str, Article]:
    """All articles by URL, oldest first."""
    found: list[Article] = json.loads(resources.files("maze_tools").joinpath("news.json").read_text(encoding="utf-8"))
    return {article["url"]: article for article in sorted(found, key=lambda article: str(article["published_at"]))}


def find_sources(url: str) -> tuple[str, list[Article]]:
    """The articles that one draws on, directly or not, oldest first, with itself as the last; and how they were found.

    "citations": the article is known. "words": it is not, and these are about what its address says; perhaps none.
    """
    articles = load_articles()
    known = articles.get(url.strip().rstrip("/"))
    if known is None:
        return "words", search(url)
    reached, pending = set(), [known["url"]]
    while pending:
        current = pending.pop()
        if current not in reached:
            reached.add(current)
            pending += articles[current]["cites"]
    return "citations", [article for address, article in articles.items() if address in reached]


def search(query: str) -> list[Article]:
    """Articles with at least two of the words of `query` in title or address (one, where it has only one), oldest first."""
    wanted = split_words(query)
    enough = min(2, len(wanted))
    return [
        article
        for article in load_articles().values()
        if enough and len(wanted & split_words(f"{article['title']} {article['url']}")) >= enough
    ]


def split_words(text: str) -> set[str]:
    """The words that say something: of three letters or more, and not the most common."""
    return {
        word for word in _WORDS.findall(text.lower()) if len(word) > 2 and word not in _COMMON and not word.isdigit()
    }
