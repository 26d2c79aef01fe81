"""The example MCP server: text, arithmetic and a small set of news, all without a network.

python3 -m maze_tools.server            streamable HTTP on port 8765, path /mcp; GET /health for probes
python3 -m maze_tools.server --stdio    over standard input and output
"""

from __future__ import annotations

import argparse
import re
from collections import Counter
from typing import Annotated, Any

import anyio
from mcp.server.mcpserver import MCPServer
from mcp.server.mcpserver.exceptions import ToolError
from pydantic import Field
from typing_extensions import TypedDict

from maze_tools import news
from maze_tools.arithmetic import BadExpression
from maze_tools.arithmetic import evaluate as work_out

PORT = 8765
WAIT_LIMIT = 300.0
TEXT_LIMIT = 1_000_000

server = MCPServer(
    "maze-tools", instructions="Offline example tools: text, arithmetic and a bundled set of news.", log_level="WARNING"
)

Text = Annotated[str, Field(max_length=TEXT_LIMIT)]

_WORD = re.compile(r"\w+(?:['’-]\w+)*")
_SENTENCE = re.compile(r"(?<=[.!?])\s+")


class Counts(TypedDict):
    words: int
    characters: int
    lines: int
    sentences: int


class Summary(TypedDict):
    summary: str
    sentences: list[str]


class Found(TypedDict):
    count: int
    positions: list[int]
    excerpts: list[str]


class Source(TypedDict):
    url: str
    outlet: str
    published_at: str
    title: str


class Sources(TypedDict):
    url: str
    found_by: str
    sources: list[Source]
    earliest: Source | None
    count: int


class Article(Source):
    text: str
    cites: list[str]


class Value(TypedDict):
    value: int | float


class Statistics(TypedDict):
    count: int
    sum: float
    mean: float
    minimum: float
    maximum: float


class Waited(TypedDict):
    seconds: float


@server.tool()
def word_count(text: Text) -> Counts:
    """Count words, characters, lines and sentences of a text."""
    sentences = [part for part in _SENTENCE.split(text.strip()) if part]
    return {
        "words": len(_WORD.findall(text)),
        "characters": len(text),
        "lines": len(text.splitlines()),
        "sentences": len(sentences),
    }


@server.tool()
def summarize(text: Text, sentences: Annotated[int, Field(ge=1, le=50)] = 2) -> Summary:
    """Pick the sentences that say most, by the words that the text uses most, in their order."""
    parts = [part for part in _SENTENCE.split(text.strip()) if part]
    weights = Counter(word.lower() for word in _WORD.findall(text) if len(word) > 3)

    def weight(part: str) -> float:
        words = _WORD.findall(part)
        return sum(weights[word.lower()] for word in words) / (len(words) + 1)

    best = sorted(sorted(range(len(parts)), key=lambda index: (-weight(parts[index]), index))[:sentences])
    chosen = [parts[index] for index in best]
    return {"summary": " ".join(chosen), "sentences": chosen}


@server.tool()
def find_text(text: Text, query: Annotated[str, Field(min_length=1)], ignore_case: bool = True) -> Found:
    """Find a word or phrase in a text: how often, where, and the first 20 places with what stands around them."""
    flags = re.IGNORECASE if ignore_case else 0
    positions = [match.start() for match in re.finditer(re.escape(query), text, flags)]
    excerpts = [text[max(0, at - 30) : at + len(query) + 30] for at in positions[:20]]
    return {"count": len(positions), "positions": positions[:1000], "excerpts": excerpts}


@server.tool()
def add(a: int | float, b: int | float) -> Value:
    """Add two numbers."""
    return {"value": a + b}


@server.tool()
def divide(a: int | float, b: int | float) -> Value:
    """Divide a by b. Dividing by zero is an error."""
    if b == 0:
        raise ToolError(f"{a:g} can't be divided by zero")
    return {"value": a / b}


@server.tool()
def evaluate(expression: str) -> Value:
    """Work out an expression of numbers, + - * / // % ** and parentheses."""
    try:
        return {"value": work_out(expression)}
    except BadExpression as error:
        raise ToolError(str(error)) from None


@server.tool()
def statistics(numbers: Annotated[list[float], Field(min_length=1, max_length=100_000)]) -> Statistics:
    """Count, sum, mean, minimum and maximum of a list of numbers."""
    total = sum(numbers)
    return {
        "count": len(numbers),
        "sum": total,
        "mean": total / len(numbers),
        "minimum": min(numbers),
        "maximum": max(numbers),
    }


@server.tool()
def search_news_sources(url: str) -> Sources:
    """Find the articles that a news article draws on, earliest first. Unknown addresses are searched by their words."""
    found_by, articles = news.find_sources(url)
    sources = [_source(article) for article in articles]
    return {
        "url": url,
        "found_by": found_by,
        "sources": sources,
        "earliest": sources[0] if sources else None,
        "count": len(sources),
    }


@server.tool()
def search_news(query: str) -> list[Source]:
    """Find articles by words of their title, earliest first; an empty query lists all."""
    found = news.search(query) if query.strip() else list(news.load_articles().values())
    return [_source(article) for article in found]


@server.tool()
def get_article(url: str) -> Article:
    """The text of a news article, and the articles that it cites."""
    found = news.load_articles().get(url.strip())
    if found is None:
        raise ToolError(f"there is no article at {url}; search_news with an empty query lists all")
    return {**_source(found), "text": found["text"], "cites": found["cites"]}


@server.tool()
async def wait(seconds: Annotated[float, Field(ge=0, le=WAIT_LIMIT)]) -> Waited:
    """Answer after so many seconds, at most 300: to try time limits and cancelling."""
    await anyio.sleep(seconds)
    return {"seconds": seconds}


def _source(article: news.Article) -> Source:
    return {
        "url": article["url"],
        "outlet": article["outlet"],
        "published_at": article["published_at"],
        "title": article["title"],
    }


def serve_http(host: str, port: int, names: list[str]) -> None:
    """Until SIGTERM or SIGINT. `names`: host names that requests may be for, beside addresses and localhost."""
    import uvicorn

    from maze_tools.hosts import make_app

    config = uvicorn.Config(
        make_app(server, names), host=host, port=port, log_level="warning", timeout_graceful_shutdown=2
    )
    uvicorn.Server(config).run()


def main(arguments: list[str] | None = None) -> Any:
    """The command line."""
    parser = argparse.ArgumentParser(prog="maze_tools.server", description="An example MCP server with offline tools.")
    parser.add_argument("--stdio", action="store_true", help="speak over standard input and output")
    parser.add_argument("--host", default="0.0.0.0", help="address to listen on")
    parser.add_argument("--port", type=int, default=PORT)
    parser.add_argument(
        "--name", action="append", default=[], help="a host name that clients use, such as that of a Service"
    )
    options = parser.parse_args(arguments)
    if options.stdio:
        server.run("stdio")
    else:
        serve_http(options.host, options.port, options.name)


if __name__ == "__main__":
    main()
