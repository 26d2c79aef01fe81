"""How answers of tools become outputs, and the decisions of the example server."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maze_tools.arithmetic import BadExpression, evaluate
from maze_tools.call import StepFailed, check_inputs, make_outputs, say_error, say_where
from maze_tools.hosts import is_known
from maze_tools.news import find_sources, load_articles, search

TEXT = {"type": "text", "text": "hello"}
IMAGE = {"type": "image", "data": "AAAA", "mimeType": "image/png"}


@pytest.mark.parametrize(
    ("answer", "outputs"),
    [
        ({"structuredContent": {"a": 1}, "content": [TEXT]}, {"a": 1}),
        ({"structuredContent": [1], "content": []}, {"result": [1]}),
        ({"structuredContent": {}, "content": [TEXT]}, {}),
        ({"content": [TEXT]}, {"text": "hello"}),
        ({"content": [TEXT, TEXT]}, {"text": "hello\nhello"}),
        ({"content": []}, {"text": ""}),
        ({}, {"text": ""}),
        ({"content": [{"type": "text", "text": '{"a": 1}'}]}, {"text": '{"a": 1}', "a": 1}),
        ({"content": [{"type": "text", "text": '{"text": 1}'}]}, {"text": 1}),
        ({"content": [{"type": "text", "text": "[1]"}]}, {"text": "[1]"}),
        ({"content": [{"type": "text", "text": "{"}]}, {"text": "{"}),
        ({"content": [TEXT, IMAGE]}, {"text": "hello", "content": [TEXT, IMAGE]}),
    ],
)
def test_every_kind_of_answer_gives_outputs(answer: dict[str, Any], outputs: dict[str, Any]) -> None:
    assert make_outputs(answer) == outputs


@pytest.mark.parametrize("value", [object(), {1, 2}, float("nan"), b"x"])
def test_arguments_that_are_no_json_are_named(value: Any) -> None:
    with pytest.raises(StepFailed, match=r"input 'k' is a .* that is not JSON") as caught:
        check_inputs({"step": "s"}, {"fine": 1, "k": value})
    assert caught.value.maze_reason == "InputNotJSON"


@pytest.mark.parametrize("inputs", [{}, {"k": None}, {"k": ""}, {"k": []}])
def test_a_required_input_that_only_the_pod_can_see_is_missed_there(inputs: dict[str, Any]) -> None:
    with pytest.raises(StepFailed, match=r"step 's' is missing required input 'k'") as caught:
        check_inputs({"step": "s", "required": ["k"]}, inputs)
    assert caught.value.maze_reason == "RequiredInputMissing"


def test_zero_and_false_are_values() -> None:
    check_inputs({"step": "s", "required": ["a", "b"]}, {"a": 0, "b": False})


def test_the_error_inside_a_group_is_what_is_said() -> None:
    assert say_error(ExceptionGroup("x", [ExceptionGroup("y", [OSError("no\nroute")])])) == "no route"
    assert say_error(TimeoutError()) == "TimeoutError"


def test_a_server_is_named_by_address_or_program() -> None:
    assert say_where({"url": "http://x/mcp"}) == "at http://x/mcp"
    assert say_where({"command": "serve", "args": ["--fast"]}) == "started by 'serve --fast'"


# --- the example server ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "value"),
    [("1 + 2 * 3", 7), ("-(2 ** 10) // 3", -342), ("7 % 4 / 2", 1.5), (" 1e3 ", 1000.0), ("2 ** -1", 0.5)],
)
def test_arithmetic(expression: str, value: float) -> None:
    assert evaluate(expression) == value


@pytest.mark.parametrize(
    "expression",
    ["", "x", "f()", "1 if 1 else 2", "'a' * 9", "1 / 0", "9 ** 9 ** 9", "1e999", "(-8) ** 0.5", "True", "[1]", "1" * 2000,
     "0 ** -1", "2.0 ** 5000", "1 +", "1j", "(" * 300 + ")" * 300],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused_in_words(expression: str) -> None:
    with pytest.raises(BadExpression, match=r"\w+"):
        evaluate(expression)


@given(st.text(alphabet="0123456789+-*/%(). e", max_size=40))
def test_no_expression_does_anything_but_give_a_number_or_say_why_not(expression: str) -> None:
    with contextlib.suppress(BadExpression):
        assert isinstance(evaluate(expression), int | float)


def test_the_news_are_whole() -> None:
    articles = load_articles()
    for article in articles.values():
        assert {"url", "outlet", "published_at", "title", "text", "cites"} == article.keys()
        for cited in article["cites"]:
            assert articles[cited]["published_at"] < article["published_at"]


def test_the_sources_of_an_article_are_found_through_others_and_begin_with_the_earliest() -> None:
    how, found = find_sources("https://evening-wire.example/n/8841")
    assert how == "citations"
    assert [article["outlet"] for article in found] == ["Coast Gazette", "Port Weekly", "Daily Ledger", "Evening Wire"]


def test_an_unknown_article_is_looked_for_by_the_words_of_its_address() -> None:
    how, found = find_sources("https://other.example/harbour-crane-story")
    assert how == "words"
    assert found[0]["outlet"] == "Coast Gazette"
    assert find_sources("https://example.com/news/article") == ("words", [])
    assert search("") == []


def test_articles_are_json() -> None:
    json.dumps(list(load_articles().values()))


@pytest.mark.parametrize(
    ("host", "known"),
    [
        ("//localhost:8765", True),
        ("//127.0.0.1:8765", True),
        ("//[::1]:8765", True),
        ("//10.96.3.4", True),
        ("//maze-tools:8765", True),
        ("//MAZE-TOOLS.:8765", True),
        ("http://localhost:3000", True),
        ("//evil.example:8765", False),
        ("//127.0.0.1.evil.example", False),
        ("https://evil.example", False),
        ("//", False),
        ("null", False),
        ("//[", False),
    ],
)
def test_a_page_that_points_its_own_name_here_is_refused(host: str, known: bool) -> None:
    assert is_known(host, {"maze-tools"}) is known
