"""Who imports whom in ``zoo``, read from the syntax trees of all its files; ``python -m tests.imports`` draws it.

An import counts wherever it stands: at the top of a file, inside a function, or under ``TYPE_CHECKING``. All three say what a
file knows of, so all three are arrows between rooms. Only imports that are executed can run in a circle, so those under
``TYPE_CHECKING`` are left out where circles of files are looked for; those inside functions are not.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1] / "zoo"


@dataclass(frozen=True)
class Import:
    """One file imports another.

    Attributes:
        source, target: dotted names of modules.
        line: where in the source.
        executed: False under ``TYPE_CHECKING``.
    """

    source: str
    target: str
    line: int
    executed: bool


def modules(package: Path = PACKAGE) -> dict[str, Path]:
    """Every module of the package by dotted name."""
    found = {}
    for path in sorted(_files(package)):
        parts = path.relative_to(package.parent).with_suffix("").parts
        found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            yield from _files(path)
        elif path.suffix == ".py":
            yield path


def imports(package: Path = PACKAGE) -> list[Import]:
    """Every import of one of the package's modules by another.

    ``from zoo.a import b`` leads to ``zoo.a.b`` where that is a module, else to ``zoo.a``. To import ``zoo.a.b`` also runs
    ``zoo.a``: that is an import of its own, unless the importing file lies in ``zoo.a`` itself, which has begun to run then.
    """
    known = modules(package)
    return [found for name, path in known.items() for found in _of_file(name, path, known.keys(), package.name)]


def _of_file(name: str, path: Path, known: Iterable[str], package: str) -> Iterator[Import]:
    names = set(known)
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unexecuted = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) in {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
        for statement in node.body
        for inner in ast.walk(statement)
    }
    for node in ast.walk(tree):
        targets: list[str] = []
        if isinstance(node, ast.Import):
            targets = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            inside = [f"{node.module}.{alias.name}" for alias in node.names]
            targets = [target if target in names else node.module for target in inside]
        for target in dict.fromkeys(step for t in targets for step in _with_parents(t, name, package)):
            if target in names and target != name:
                yield Import(name, target, getattr(node, "lineno", 0), id(node) not in unexecuted)


def _with_parents(target: str, source: str, package: str) -> Iterator[str]:
    yield target
    parts = target.split(".")
    for end in range(2, len(parts)):
        parent = ".".join(parts[:end])
        if parts[0] == package and not f"{source}.".startswith(f"{parent}."):
            yield parent


def circles(edges: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Strongly connected components of more than one member (Tarjan's algorithm, without recursion), sorted."""
    graph: dict[str, list[str]] = {}
    for source, target in edges:
        graph.setdefault(source, []).append(target)
        graph.setdefault(target, [])
    number: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found = []
    for root in list(graph):
        if root in number:
            continue
        work = [(root, iter(graph[root]))]
        number[root] = low[root] = len(number)
        stack.append(root)
        while work:
            node, rest = work[-1]
            following = next(rest, None)
            if following is None:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == number[node]:
                    component = [stack.pop()]
                    while component[-1] != node:
                        component.append(stack.pop())
                    if len(component) > 1:
                        found.append(sorted(component))
            elif following not in number:
                number[following] = low[following] = len(number)
                stack.append(following)
                work.append((following, iter(graph[following])))
            elif following in stack:
                low[node] = min(low[node], number[following])
    return sorted(found)


def room_of(module: str) -> str:
    """The room of a module: its folder directly in ``zoo``, or its own name where it lies in ``zoo`` itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "zoo"


def arrows(found: Iterable[Import]) -> dict[str, dict[str, list[Import]]]:
    """Imports between rooms: by importing room, then by imported room."""
    table: dict[str, dict[str, list[Import]]] = {}
    for one in found:
        source, target = room_of(one.source), room_of(one.target)
        if source != target:
            table.setdefault(source, {}).setdefault(target, []).append(one)
    return table


def picture(found: list[Import]) -> str:
    """Rooms, arrows with the number of imports, and circles, as text."""
    table = arrows(found)
    lines = []
    for source in sorted(table, key=lambda room: (-len(table[room]), room)):
        targets = sorted(table[source].items(), key=lambda item: (-len(item[1]), item[0]))
        lines.append(f"{source:>14} -> " + ", ".join(f"{name} {len(items)}" for name, items in targets))
    rooms = {room for source, targets in table.items() for room in (source, *targets)}
    executed = [one for one in found if one.executed]
    lines.append(f"{len(rooms)} rooms, {sum(map(len, table.values()))} arrows, {len(found)} imports between files")
    for title, groups in (
        ("circle of files", circles((one.source, one.target) for one in executed)),
        ("circle of rooms", circles(_pairs(arrows(executed)))),
    ):
        lines += [f"{title}: {len(group)}: {', '.join(group)}" for group in groups] or [f"no {title}"]
    return "\n".join(lines)


def _pairs(table: Mapping[str, Mapping[str, object]]) -> Iterator[tuple[str, str]]:
    for source, targets in table.items():
        for target in targets:
            yield source, target


if __name__ == "__main__":
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    print(picture(imports(folder)))  # noqa: T201 - what this command is for
