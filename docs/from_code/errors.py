"""The page of named errors: what each means, and what it says where it is raised."""

from __future__ import annotations

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping

from docs.from_code.code import parsed
from regiolect import errors
from regiolect.errors import RegiolectError

PARTS = ("expected", "found", "remedy")
Saying = tuple[str, ...]
Texts = Mapping[str, ast.expr]


def page() -> str:
    """The page of errors."""
    sayings = _sayings()
    tree = list(_tree(RegiolectError, 0))
    index = "\n".join(f"{'    ' * depth}- [`{kind.__name__}`](#{kind.__name__.lower()})" for kind, depth in tree)
    return "\n\n".join(
        [
            "# Named errors",
            "Every error that Regiolect raises on purpose says what was expected, what was found, and what to do or"
            " type next. This page has them all, with what they say. What differs from case to case stands in `<>`;"
            " `...` is text that is put together as it happens, a library's own words for one; `|` stands between"
            " texts of which one is said. A library's error stays attached as the cause.",
            "A command that ends with one exits with 1, or with 2 where the request was wrong. In Python each is a"
            " class of `regiolect.errors`; to catch one above others in this tree is to catch those as well.",
            index,
            *(_section(kind, sayings[kind.__name__]) for kind, _ in tree),
        ]
    )


def _tree(kind: type[RegiolectError], depth: int) -> Iterator[tuple[type[RegiolectError], int]]:
    yield kind, depth
    for child in kind.__subclasses__():
        # Tests make some of their own.
        if child.__module__.startswith("regiolect."):
            yield from _tree(child, depth + 1)


def _section(kind: type[RegiolectError], sayings: list[Saying]) -> str:
    above = kind.__mro__[1]
    parts = [f"## {kind.__name__}", _meaning(kind)]
    if issubclass(above, RegiolectError):
        parts.append(f"A [`{above.__name__}`](#{above.__name__.lower()}); exit code {kind.exit_code}.")
    if sayings:
        told = "\n\n".join(
            "\n".join(f"{part:<8}  {text}" for part, text in zip(PARTS, saying, strict=True)) for saying in sayings
        )
        parts.append(f"```text\n{told}\n```")
    return "\n\n".join(part for part in parts if part)


def _meaning(kind: type[RegiolectError]) -> str:
    """Its docstring's first line, or what stands beside it in the drawing of the tree."""
    if kind.__doc__:
        return kind.__doc__.partition("\n")[0]
    drawn = re.search(rf"{kind.__name__} {{2,}}(.+)", errors.__doc__ or "")
    return f"{drawn[1][0].upper()}{drawn[1][1:]}." if drawn else ""


def _sayings() -> dict[str, list[Saying]]:
    """What each error says, by its name, once each, in the order of files and lines."""
    named = {name for name in vars(errors) if inspect.isclass(getattr(errors, name))}
    files = list(parsed())
    constants = {name: value for _, module in files for name, value in _assigned(module.body) if name.isupper()}
    sayings: dict[str, list[Saying]] = defaultdict(list)
    for _, module in files:
        for call, texts in _calls(module, constants):
            given = {each.arg: each.value for each in call.keywords if each.arg}
            if len(call.args) == len(PARTS) and isinstance(call.func, ast.Name) and call.func.id in named:
                given = dict(zip(PARTS, call.args, strict=True))
            if given.keys() >= set(PARTS):
                saying = tuple(_text(given[part], texts) for part in PARTS)
                if not re.sub(r"<[^>]*>|\W", "", saying[0]):
                    # Others' words throughout.
                    continue
                for name in sorted(_kinds(call, given, texts) & named):
                    if saying not in sayings[name]:
                        sayings[name].append(saying)
    return sayings


def _kinds(call: ast.Call, given: Texts, texts: Texts) -> set[str]:
    """Names of what a call may be for: its own, that of its first argument, or those that stand for its variable."""
    candidates = [call.func, *call.args[:1], *([given["error"]] if "error" in given else [])]
    names = {each.id for each in candidates if isinstance(each, ast.Name)}
    told = [texts[name] for name in names if name in texts]
    return names | {each.id for text in told for each in ast.walk(text) if isinstance(each, ast.Name)}


def _calls(module: ast.Module, constants: Texts) -> Iterator[tuple[ast.Call, Texts]]:
    """Every call, with the texts that names stand for there."""
    seen: set[ast.Call] = set()
    every = list(ast.walk(module))
    functions = [node for node in every if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
    # The innermost first.
    for scope in (*reversed(functions), module):
        own = dict(_assigned(node for node in ast.walk(scope) if isinstance(node, ast.stmt)))
        given = [] if isinstance(scope, ast.Module) else list(_given(scope, every))
        for node in ast.walk(scope):
            if isinstance(node, ast.Call) and node not in seen:
                seen.add(node)
                yield from ((node, {**constants, **own, **texts}) for texts in given or [{}])


def _given(helper: ast.FunctionDef | ast.AsyncFunctionDef, every: list[ast.AST]) -> Iterator[dict[str, ast.expr]]:
    """What a function that is given an error's texts is called with in its module, by its parameters' names."""
    names = [each.arg for each in helper.args.args if each.arg != "self"]
    defaults = dict(zip(reversed(names), reversed(helper.args.defaults), strict=False))
    for call in every if set(names) & set(PARTS) else ():
        match call:
            case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name == helper.name:
                named = {each.arg: each.value for each in call.keywords if each.arg}
                yield {**defaults, **dict(zip(names, call.args, strict=False)), **named}
            case _:
                pass


def _assigned(statements: Iterator[ast.stmt] | list[ast.stmt]) -> Iterator[tuple[str, ast.expr]]:
    for node in statements:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node.value
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
        ):
            names = [each.id for each in node.targets[0].elts if isinstance(each, ast.Name)]
            yield from zip(names, node.value.elts, strict=False)


def _text(node: ast.expr, texts: Texts, depth: int = 0) -> str:
    """A text as it is written in the code, with names in `<>` for what it is filled with."""

    def inner(each: ast.expr) -> str:
        return _text(each, texts, depth + 1)

    match node:
        case ast.Constant(value=value):
            return " ".join(str(value).split())
        case ast.JoinedStr(values=values):
            parts = [
                str(part.value) if isinstance(part, ast.Constant) else _filled(part.value, texts, depth + 1)
                for part in values
                if isinstance(part, ast.Constant | ast.FormattedValue)
            ]
            return " ".join("".join(parts).split())
        case ast.Name(id=name) if name in texts and depth < 3:
            return inner(texts[name])
        case ast.IfExp(body=one, orelse=other):
            return " | ".join(dict.fromkeys((inner(one), inner(other))))
        case ast.BoolOp(values=several):
            return " | ".join(dict.fromkeys(map(inner, several)))
        case ast.BinOp(left=left, op=ast.Add(), right=right):
            return f"{inner(left)}{inner(right)}"
        case ast.Call(args=given) if any(isinstance(each, ast.Constant | ast.JoinedStr) for each in given):
            return inner(next(each for each in given if isinstance(each, ast.Constant | ast.JoinedStr)))
        case ast.Call():
            return _placeholder(node)
        case _:
            return "..."


def _filled(node: ast.expr, texts: Texts, depth: int) -> str:
    if isinstance(node, ast.Name) and isinstance(texts.get(node.id), ast.Constant | ast.JoinedStr) and depth < 3:
        return _text(texts[node.id], texts, depth)
    return _placeholder(node)


def _placeholder(node: ast.expr) -> str:
    match node:
        case ast.Name(id=name) | ast.Attribute(attr=name) if name not in ("error", "found"):
            return f"<{name.strip('_').lower().replace('_', ' ')}>"
        case ast.Call(func=ast.Attribute(attr="join"), args=[argument]):
            return _placeholder(argument)
        case ast.Call(func=ast.Name(id="map"), args=[_, argument]):
            return _placeholder(argument)
        case ast.Call(args=[argument, *_]):
            return _placeholder(argument)
        case ast.Call(func=called, args=[]) if not isinstance(called, ast.Attribute):
            return _placeholder(called)
        case ast.GeneratorExp(elt=value) | ast.ListComp(elt=value) | ast.Subscript(value=value):
            return _placeholder(value)
        case _:
            return "..."
