"""Arithmetic on text that anybody may have written: no names, no calls, and nothing that grows without bound."""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any

LENGTH_LIMIT = 1000
"""Characters of an expression."""
BITS_LIMIT = 4096
"""Of any whole number on the way."""

Number = int | float

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[Any], Any]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}


class BadExpression(ValueError):
    """The text says what is wrong with the expression."""


def evaluate(expression: str) -> Number:
    """The value of an expression of numbers, + - * / // % ** and parentheses.

    Raises:
        BadExpression: it is none, or has no value that is reasonably small.
    """
    if len(expression) > LENGTH_LIMIT:
        raise BadExpression(f"the expression has {len(expression)} characters; at most {LENGTH_LIMIT} are taken")
    try:
        tree = ast.parse(expression.strip(), mode="eval")
        return _value(tree.body)
    except SyntaxError:
        raise BadExpression(
            f"'{expression}' is not an expression of numbers, + - * / // % ** and parentheses"
        ) from None
    except ZeroDivisionError:
        raise BadExpression(f"'{expression}' divides by zero") from None
    except (OverflowError, RecursionError, MemoryError):
        raise BadExpression(f"'{expression}' is too large to work out") from None


def _value(node: ast.expr) -> Number:
    if isinstance(node, ast.Constant) and type(node.value) in (int, float):
        return _checked(node.value)
    if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
        return _checked(_UNARY[type(node.op)](_value(node.operand)))
    if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
        left, right = _value(node.left), _value(node.right)
        whole = isinstance(left, int) and isinstance(right, int)
        if whole and isinstance(node.op, ast.Pow) and int(left).bit_length() * right > BITS_LIMIT:
            raise OverflowError
        return _checked(_BINARY[type(node.op)](left, right))
    raise BadExpression("only numbers, + - * / // % ** and parentheses are taken")


def _checked(value: Any) -> Number:
    """A real, finite number; (-8) ** 0.5 is complex, 1e999 is infinite."""
    if isinstance(value, int) and value.bit_length() <= BITS_LIMIT:
        return value
    if isinstance(value, float) and value - value == 0:
        return value
    raise OverflowError
