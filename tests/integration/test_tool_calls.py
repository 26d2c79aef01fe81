"""A step's call of a tool, against real servers over HTTP and standard streams. Wrong here, a step fails without a reason
or is said to have succeeded."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from maze_tools import call as calls
from maze_tools.call import StepFailed, call_tool
from maze_tools.client import ServerUnreachable, list_tools
from mcp_servers import EXAMPLE_STDIO, ODD_STDIO, example_server, odd_server

Json = dict[str, Any]


@pytest.fixture(scope="module")
def example() -> Iterator[Json]:
    with example_server() as url:
        yield {"url": url}


@pytest.fixture(scope="module")
def odd() -> Iterator[Json]:
    with odd_server() as url:
        yield {"url": url}


def ask(server: Json, tool: str, **inputs: Any) -> Json:
    return call_tool({"step": "s", "tool": tool, "server": server}, inputs)


def fail(server: Json, tool: str, **inputs: Any) -> tuple[str, str]:
    with pytest.raises(StepFailed) as caught:
        ask(server, tool, **inputs)
    return caught.value.maze_reason, str(caught.value)


def test_over_http_and_stdio_the_same_call_gives_the_same_outputs(example: Json) -> None:
    for server in (example, EXAMPLE_STDIO):
        assert ask(server, "divide", a=3, b=12) == {"value": 0.25}


def test_failures_of_a_tool_are_told_in_its_own_words(example: Json) -> None:
    for server in (example, EXAMPLE_STDIO):
        reason, message = fail(server, "divide", a=1, b=0)
        assert reason == "ToolError"
        assert "tool 'divide' failed" in message
        assert "1 can't be divided by zero" in message


def test_a_tool_that_is_not_there_is_told_with_those_that_are(example: Json) -> None:
    reason, message = fail(example, "dividde", a=1, b=0)
    assert reason == "ToolNotFound"
    assert "has no tool 'dividde'; there are: add, divide," in message


def test_wrong_arguments_are_an_error_of_the_tool(example: Json) -> None:
    reason, message = fail(example, "divide", a="x")
    assert reason == "ToolError"
    assert "b" in message


def test_answers_without_structure_are_outputs_too(odd: Json) -> None:
    assert ask(odd, "text") == {"text": "only words"}
    assert ask(odd, "json_text") == {"text": '{"answer": 42}', "answer": 42}
    picture = ask(odd, "picture")
    assert picture["content"][0]["mimeType"] == "image/png"


def test_a_plain_value_is_the_output_result_and_may_be_large(odd: Json) -> None:
    assert len(ask(odd, "large")["result"]) == 3 * 1024 * 1024


def test_an_error_of_the_protocol_is_an_error_of_the_tool(odd: Json) -> None:
    reason, message = fail(odd, "protocol_error")
    assert reason == "ToolError"
    assert "the quota is used up" in message


def test_declared_outputs_must_be_there(example: Json) -> None:
    call = {"step": "s", "tool": "add", "server": example, "outputs": ["sum"]}
    with pytest.raises(StepFailed, match=r"tool 'add' gave no output 'sum'; it gave 'value'") as caught:
        call_tool(call, {"a": 1, "b": 2})
    assert caught.value.maze_reason == "MissingOutput"


def test_a_program_gets_the_environment_of_the_step_and_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OF_THE_STEP", "one")
    server = {**ODD_STDIO, "env": {"OF_THE_PROGRAM": "two"}}
    assert ask(server, "environment", name="OF_THE_STEP") == {"value": "one"}
    assert ask(server, "environment", name="OF_THE_PROGRAM") == {"value": "two"}


def test_a_server_that_dies_during_the_call_is_told_as_such() -> None:
    reason, message = fail(ODD_STDIO, "die")
    assert reason == "ToolServerUnreachable"
    assert "mcp_servers.py --stdio' ended the connection during the call" in message
    with odd_server() as url:
        reason, message = fail({"url": url}, "die")
    assert reason == "ToolServerUnreachable", message
    assert url in message


@pytest.mark.parametrize(("command", "words"), [("no-such-program", "No such file"), ("false", "Connection closed")])
def test_a_program_that_does_not_serve_is_named(command: str, words: str) -> None:
    reason, message = fail({"command": command}, "add")
    assert reason == "ToolServerUnreachable"
    assert f"started by '{command}' can't be reached" in message
    assert words in message


def test_a_server_that_is_not_there_is_tried_for_a_moment_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY_SECONDS", 0.5)
    with socket.socket() as closed:  # bound and not listening: nobody else can take the port
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/mcp"
        reason, message = fail({"url": url}, "add")
    assert reason == "ToolServerUnreachable"
    assert f"the MCP server at {url} can't be reached: All connection attempts failed" in message


def test_a_server_that_is_starting_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY_SECONDS", 120.0)
    tried = threading.Event()
    real = calls.NotConnected.__init__

    def noticed(self: Exception, *args: object) -> None:
        real(self, *args)  # type: ignore[arg-type]
        tried.set()

    monkeypatch.setattr(calls.NotConnected, "__init__", noticed)
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
        outcome: list[Any] = []
        asking = threading.Thread(
            target=lambda: outcome.append(ask({"url": f"http://127.0.0.1:{port}/mcp"}, "add", a=1, b=2))
        )
        asking.start()
        assert tried.wait(60)
    with example_server(port):
        asking.join(120)
    assert outcome == [{"value": 3}]


def test_a_server_that_says_nothing_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY_SECONDS", 0.1)
    monkeypatch.setitem(calls.CONNECT_SECONDS, "url", 0.5)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        reason, message = fail({"url": f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"}, "add")
    assert reason == "ToolServerUnreachable"
    assert "did not answer within 0.5 seconds" in message


def test_a_server_of_something_else_is_not_taken_for_one(example: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "RETRY_SECONDS", 0.1)
    reason, message = fail({"url": example["url"].replace("/mcp", "/other")}, "add")
    assert reason == "ToolServerUnreachable"
    assert "Not Found" in message


@pytest.mark.anyio
async def test_the_tools_of_a_server_are_listed_with_their_schemas(example: Json) -> None:
    for server in (example["url"], example, EXAMPLE_STDIO):
        tools = {tool["name"]: tool for tool in await list_tools(server, seconds=60)}
        assert {"add", "search_news_sources", "wait"} <= tools.keys()
        assert tools["add"]["description"] == "Add two numbers."
        assert tools["add"]["input_schema"]["required"] == ["a", "b"]


@pytest.mark.anyio
async def test_a_list_that_can_not_be_had_says_why() -> None:
    with pytest.raises(ServerUnreachable, match=r"http://127\.0\.0\.1:1/mcp can't be asked for its tools: All conn"):
        await list_tools("http://127.0.0.1:1/mcp")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/mcp"
        with pytest.raises(ServerUnreachable, match=r"did not answer within 0\.5 seconds"):
            await list_tools(url, seconds=0.5)
