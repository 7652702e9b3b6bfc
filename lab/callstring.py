"""Call strings: `fa(scale=0.5)`, `mlp(256,128,act=tanh)`, `adam(1e-3)` name a thing and its hyper-parameters.

They are read with Python's own grammar and nothing is ever evaluated: arguments are literals, bare words or tuples of
these. A call string has one canonical form, with every default spelled out, so that two ways of asking for the same
thing are the same request.
"""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from keyword import iskeyword
from typing import Any

from lab.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Call:
    """A parsed call string: the name in front, positional and keyword arguments."""

    name: str
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def _point(what: str, text: str, column: int, why: str) -> UsageError:
    """One line that says what is wrong, and the place marked inside the text."""
    column = max(0, min(column, len(text)))
    return UsageError(f"{what} '{text[:column]}»{text[column:]}': {why} (at the »)")


def _word(node: ast.expr) -> str | None:
    """A bare word, hyphens allowed: to Python's grammar a difference of names."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Sub):
        left, right = _word(node.left), _word(node.right)
        return None if left is None or right is None else f"{left}-{right}"
    return None


def _literal(node: ast.expr, what: str, text: str, offset: int) -> Any:
    word = _word(node)
    if word is not None:
        return word  # a bare word is a string: act=tanh
    if isinstance(node, ast.Tuple | ast.List):
        return tuple(_literal(item, what, text, offset) for item in node.elts)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError):
        raise _point(
            what, text, offset + node.col_offset, "only numbers, words, True/False and tuples go here"
        ) from None


def parse(text: str, what: str) -> Call:
    """Read a call string.

    Args:
        text: such as `fa`, `fa()`, `fa(scale=0.5)` or `./my_rule.py(scale=2)`.
        what: how errors name it, such as "--rule".

    Raises:
        UsageError: not a call string; the message marks the place.
    """
    text = text.strip()
    bracket = text.find("(")
    name, rest = (text, "") if bracket < 0 else (text[:bracket].strip(), text[bracket:])
    if not name:
        raise UsageError(f"{what} '{text}': a name is missing in front, as in fa(scale=0.5)")
    if not rest:
        return Call(name, (), {})
    if len(text) > 1000:
        raise UsageError(f"{what}: a call string of {len(text)} characters is too long (at most 1000)")
    offset = bracket - 1  # the name is replaced by one letter before parsing
    try:
        tree = ast.parse(f"f{rest}", mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        column = offset + (getattr(error, "offset", None) or 1) - 1
        raise _point(what, text, column, getattr(error, "msg", None) or "cannot be read") from None
    if not isinstance(tree, ast.Call) or not isinstance(tree.func, ast.Name):
        raise _point(what, text, len(name), "expected one pair of brackets with arguments, as in fa(scale=0.5)")
    kwargs: dict[str, Any] = {}
    for keyword in tree.keywords:
        if keyword.arg is None:
            raise _point(what, text, offset + keyword.value.col_offset, "** is not allowed here")
        if keyword.arg in kwargs:
            raise _point(what, text, offset + keyword.col_offset, f"{keyword.arg} is given twice")
        kwargs[keyword.arg] = _literal(keyword.value, what, text, offset)
    return Call(name, tuple(_literal(arg, what, text, offset) for arg in tree.args), kwargs)


def has_brackets(text: str) -> bool:
    """Whether a call string says its settings: `fa()` asks for the defaults, `fa` for what the recipe of fa says."""
    return "(" in text


def resolve(call: Call, table: Mapping[str, Callable], what: str, listing: str) -> Callable:
    """The factory of that name.

    Raises:
        UsageError: unknown name; the message offers the nearest one and says where all are listed.
    """
    if call.name in table:
        return table[call.name]
    raise UsageError(
        f"{what}: unknown name '{call.name}'.{did_you_mean(call.name, list(table))} "
        f"Known: {', '.join(table)}. {listing}".rstrip()
    )


def bind(call: Call, factory: Callable, what: str) -> inspect.BoundArguments:
    """Match arguments to the factory's signature, defaults filled in, numbers in the default's type.

    Raises:
        UsageError: an unknown, missing or surplus argument; the message lists what the factory takes.
    """
    signature = inspect.signature(factory)
    known = signature.parameters
    takes = f"{call.name} takes {', '.join(map(plain, known.values()))}" if known else f"{call.name} takes no arguments"
    for name in call.kwargs:
        if name not in known or known[name].kind is inspect.Parameter.VAR_POSITIONAL:
            raise UsageError(f"{what}: {call.name} has no '{name}'.{did_you_mean(name, list(known))} {takes}")
    try:
        bound = signature.bind(*call.args, **call.kwargs)
    except TypeError as error:
        raise UsageError(f"{what}: {call.name}: {error}; {takes}") from None
    bound.apply_defaults()
    for name, parameter in known.items():
        value = bound.arguments[name]
        real = _real(parameter)
        if real and isinstance(value, int) and not isinstance(value, bool):
            try:
                bound.arguments[name] = float(value)
            except OverflowError:
                raise UsageError(f"{what}: {call.name}: {name} is beyond every floating-point number") from None
    return bound


def _real(parameter: inspect.Parameter) -> bool:
    return isinstance(parameter.default, float) or parameter.annotation in (float, "float")


def require_numbers(bound: inspect.BoundArguments, what: str) -> None:
    """Refuse a word where a factory has a float, for factories that do not check this themselves.

    Raises:
        UsageError: there is one; `nan` and `inf` are words too.
    """
    for name, parameter in bound.signature.parameters.items():
        if _real(parameter) and isinstance(bound.arguments[name], str):
            raise UsageError(f"{what}: {name} must be a finite number, not {bound.arguments[name]!r}")


def plain(parameter: inspect.Parameter) -> str:
    """A parameter as one would write it: `scale=1.0`, `*widths`, `learning_rate`."""
    return str(parameter.replace(annotation=inspect.Parameter.empty))


def canonical(name: str, bound: inspect.BoundArguments) -> str:
    """The one spelling of this call: every argument given, positional ones only where the factory has `*args`."""
    parts = []
    for key, value in bound.arguments.items():
        if bound.signature.parameters[key].kind is inspect.Parameter.VAR_POSITIONAL:
            parts += [repr(item) for item in value]
        else:
            parts.append(f"{key}={value!r}")
    return f"{name}({', '.join(parts)})"


def short(call: str, table: Mapping[str, Callable]) -> str:
    """A canonical call string without what its factory does anyway: `adam(0.001)`, `fa`, `mlp(256,128,act=tanh)`.

    A name that the table lacks, as of a user's file, keeps all its arguments.
    """
    said = parse(call, "")
    if said.name not in table:
        return call
    known = inspect.signature(table[said.name]).parameters
    words = [_briefly(item) for item in said.args]
    for name, value in said.kwargs.items():
        default = known[name].default if name in known else None
        if default is inspect.Parameter.empty:
            words.append(_briefly(value))
        elif repr(value) != repr(default):  # True is no 1.0
            words.append(f"{name}={_briefly(value)}")
    return f"{said.name}({','.join(words)})" if words else said.name


def _briefly(value: Any) -> str:
    """A value as one would type it: words need no quotes."""
    if isinstance(value, tuple):
        return f"({','.join(map(_briefly, value))}{',' * (len(value) == 1)})"
    word = isinstance(value, str) and all(part.isidentifier() and not iskeyword(part) for part in value.split("-"))
    return value if word else repr(value)


def build(text: str, table: Mapping[str, Callable], what: str, listing: str = "") -> tuple[Any, str]:
    """The thing a call string names, and the canonical call string."""
    call = parse(text, what)
    factory = resolve(call, table, what, listing)
    bound = bind(call, factory, what)
    try:
        made = factory(*bound.args, **bound.kwargs)
    except (TypeError, ValueError) as error:  # a value that the factory cannot take, in its own words
        raise UsageError(f"{what} '{text}': {error}") from None
    return made, canonical(call.name, bound)
