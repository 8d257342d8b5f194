"""The picture of the house: its layers, and the way of the data through them.

Layers are import-linter's. Steps are the tasks that a release calls, in the order in which its flows call them; what a
step reads and makes is what its signature says.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape

from docs.from_code.code import ROOT, layers

# The functions that call the steps of a release, in the order in which they run.
SEQUENCE = (
    ("flows/release.py", "release"),
    ("flows/release.py", "_release"),
    ("flows/build_region.py", "_build"),
    ("flows/publish.py", "publish_region"),
)
ABOVE = ("flows", "tasks", "data_checks")
# A plan is handed on as the requests in it.
HANDED_ON = {"Plan": "RegionRequest"}
# What steps ask for by the way: none of them is where a step's work is done, but for planning where there is no other.
ASIDE = frozenset({"contracts", "errors", "model", "progress", "registry", "settings"})

ROW, BOX, GAP, LEFT, TOP, LANE = 30, 114, 6, 44, 58, 18
FONT = "font-family:system-ui,-apple-system,'Segoe UI',Roboto,Helvetica,Arial,sans-serif"
INK, FAINT, PAPER, FILL, ACCENT = "#1f2937", "#6b7280", "#ffffff", "#f1f5f9", "#0f766e"
COLOURS = ("#0f766e", "#b45309", "#1d4ed8", "#be185d", "#4d7c0f", "#7c3aed", "#0369a1", "#b91c1c")


@dataclass(frozen=True)
class Step:
    """A task: what it is called, where its work is done, what it reads and what it makes."""

    name: str
    package: str
    reads: tuple[str, ...]
    makes: str


def steps() -> list[Step]:
    """The way of the data, in its order."""
    defined = _defined()
    found: list[Step] = []
    for file, function in SEQUENCE:
        module = ast.parse((ROOT / file).read_text())
        body = next(node for node in module.body if isinstance(node, ast.FunctionDef) and node.name == function)
        for name in _called(body):
            if name in defined and name not in [step.name for step in found]:
                where, node = defined[name]
                annotations = [ast.unparse(each.annotation) for each in node.args.args if each.annotation]
                made = [step.makes for step in found]
                reads = tuple(each for each in made if any(each in text for text in annotations))
                makes = ast.unparse(node.returns).partition(" |")[0] if node.returns else "None"
                if makes != "None":
                    found.append(Step(name, _package(where, node), reads, HANDED_ON.get(makes, makes)))
    return found


def _defined() -> dict[str, tuple[ast.Module, ast.FunctionDef]]:
    """Tasks, and what makes a build's outcome, by name."""
    defined = {}
    for path in (*sorted((ROOT / "tasks").glob("*.py")), ROOT / "regiolect" / "release" / "outcome.py"):
        module = ast.parse(path.read_text())
        for node in module.body:
            decorators = node.decorator_list if isinstance(node, ast.FunctionDef) else []
            if isinstance(node, ast.FunctionDef) and (
                any(ast.unparse(each).startswith("task") for each in decorators) or node.name == "conclude"
            ):
                defined[node.name] = (module, node)
    return defined


def _called(node: ast.AST) -> Iterator[str]:
    """Names of what is called, the arguments of a call before itself."""
    for child in ast.iter_child_nodes(node):
        yield from _called(child)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        yield node.func.id


def _package(module: ast.Module, function: ast.FunctionDef) -> str:
    """The name in the layers, or above them, that a task calls: the highest one that it needs."""
    stages = ast.parse((ROOT / "regiolect" / "release" / "stages.py").read_text())
    # What is no task is a build's end, in `release` itself.
    used = _imported(module, function) if function.decorator_list else set()
    for node in ast.walk(function):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "stages":
            used = _imported(stages, next(each for each in stages.body if getattr(each, "name", "") == node.attr))
    order = [*ABOVE, *(name for row in layers() for name in row)]
    wanted = [name for name in order if name in used - ASIDE]
    # It asks everybody for a request, which planning makes.
    return next((name for name in wanted if name != "planning"), *wanted[:1]) if wanted else "release"


def _imported(module: ast.Module, function: ast.AST) -> set[str]:
    """Names in the layers whose parts a function names in its body."""
    names = {each.id for each in ast.walk(function) if isinstance(each, ast.Name)}
    found = set()
    for node in module.body:
        if isinstance(node, ast.ImportFrom) and node.module:
            parts = node.module.split(".")
            for alias in node.names:
                if (alias.asname or alias.name) in names and parts[0] in ("regiolect", "data_checks"):
                    found.add(parts[1] if len(parts) > 1 else alias.name if parts[0] == "regiolect" else parts[0])
    return found - {"tasks"}


# ------------------------------------------------------------------------------------------------ drawing


def svg() -> str:
    """The picture."""
    way = steps()
    rows = [[name] for name in ABOVE] + layers()
    widest = LEFT + max(map(len, rows)) * (BOX + GAP)
    right = widest + 24
    lanes = list(dict.fromkeys(step.makes for step in way))
    width = right + 180 + len(lanes) * LANE + 160
    height = TOP + len(rows) * ROW + 46
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"'
        f' role="img" aria-label="Layers of the package, and the way of the data through a release">',
        f'<rect width="{width}" height="{height}" fill="{PAPER}"/>',
        _say(LEFT, 24, "Layers: imports only go down", size=16, weight=600),
        _say(LEFT, 42, "A number in a box: the step that works there", colour=FAINT, size=12),
        _say(right, 24, "The way of the data: what each step reads and makes", size=16, weight=600),
        _say(right, 42, "A dot on a line: read here. A line begins where its contract is made", colour=FAINT, size=12),
        *_layers(rows, way),
        *_way(way, lanes, right, height),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _layers(rows: list[list[str]], way: list[Step]) -> Iterator[str]:
    for place, names in enumerate(rows):
        y = TOP + place * ROW
        number = place - len(ABOVE) + 1
        if number > 0:
            yield _say(LEFT - 12, y + 17, str(number), colour=FAINT, size=12, anchor="end")
        for column, name in enumerate(names):
            x = LEFT + column * (BOX + GAP)
            numbers = [str(at) for at, step in enumerate(way, 1) if step.package == name]
            line = ACCENT if numbers else "#cbd5e1"
            yield f'<rect x="{x}" y="{y}" width="{BOX}" height="{ROW - 6}" rx="4" fill="{FILL}" stroke="{line}"/>'
            yield _say(x + 8, y + 16, name, size=13)
            if numbers:
                yield _say(x + BOX - 8, y + 16, " ".join(numbers), colour=ACCENT, size=12, weight=700, anchor="end")
    end = TOP + len(rows) * ROW
    yield f'<path d="M 8 {TOP + 4} V {end - 16} m -5 -8 l 5 9 l 5 -9" fill="none" stroke="{FAINT}"/>'
    yield _say(LEFT, end + 22, "Names of one layer do not import each other.", colour=FAINT, size=12)


def _way(way: list[Step], lanes: list[str], x: int, height: int) -> Iterator[str]:
    first = x + 180
    pitch = (height - TOP - 40) / len(way)
    colours = {name: COLOURS[place % len(COLOURS)] for place, name in enumerate(lanes)}

    def row(place: int) -> float:
        return TOP + 12 + place * pitch

    for place, step in enumerate(way):
        y = row(place)
        yield f'<circle cx="{x + 11}" cy="{y:.1f}" r="11" fill="{ACCENT}"/>'
        yield _say(x + 11, y + 4, str(place + 1), colour=PAPER, size=12, weight=700, anchor="middle")
        yield _say(x + 30, y - 1, step.name, size=14, weight=600)
        yield _say(x + 30, y + 13, f"in {step.package}", colour=FAINT, size=11)
        end = first + len(lanes) * LANE
        yield f'<path d="M {first - 14} {y:.1f} H {end}" stroke="#e5e7eb" stroke-width="1"/>'
        yield _say(end + 8, y + 4, step.makes, colour=colours[step.makes], size=13, weight=600)
    for column, name in enumerate(lanes):
        at, colour = first + column * LANE, colours[name]
        made = next(place for place, step in enumerate(way) if step.makes == name)
        read = [place for place, step in enumerate(way) if name in step.reads]
        last = max([made, *read])
        yield f'<path d="M {at} {row(made):.1f} V {row(last):.1f}" stroke="{colour}" stroke-width="2.5"/>'
        yield (
            f'<path d="M {at} {row(made):.1f} H {first + len(lanes) * LANE}" stroke="{colour}" stroke-width="1.5"'
            ' stroke-dasharray="2 3"/>'
        )
        yield f'<rect x="{at - 5}" y="{row(made) - 5:.1f}" width="10" height="10" rx="2" fill="{colour}"/>'
        for place in read:
            y = row(place)
            yield f'<circle cx="{at}" cy="{y:.1f}" r="4.5" fill="{PAPER}" stroke="{colour}" stroke-width="2.5"/>'


def _say(
    x: float, y: float, text: str, *, colour: str = INK, size: int, weight: int = 400, anchor: str = "start"
) -> str:
    return (
        f'<text x="{x:g}" y="{y:.1f}" style="{FONT}" font-size="{size}" font-weight="{weight}" fill="{colour}"'
        f' text-anchor="{anchor}">{escape(text)}</text>'
    )
