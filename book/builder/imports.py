"""What imports what in a package, read from its source without running it."""

import ast
from collections import Counter
from collections.abc import Iterable, Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

Edge = tuple[str, str]


def read_modules(package: Path) -> dict[str, ast.Module]:
    """The syntax tree of each module, by dotted name; a folder bears its own name."""
    found = {}
    for path in sorted(package.rglob("*.py")):
        parts = path.relative_to(package.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = ast.parse(path.read_text(encoding="utf-8"), str(path))
    return found


def imports(modules: dict[str, ast.Module]) -> list[Edge]:
    """Pairs (importing module, imported module) within the package, each once.

    Counted wherever they stand: at the top, in a function, under TYPE_CHECKING; and
    modules that are named in a string to be loaded on first use.
    """
    edges = set()
    for name, tree in modules.items():
        for target in _targets(name, tree, modules):
            if target != name:
                edges.add((name, target))
    return sorted(edges)


def _targets(name: str, tree: ast.Module, modules: dict) -> Iterator[str]:
    root = name.partition(".")[0]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            dotted = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(
                    f"{name}, line {node.lineno}: write the import in full"
                )
            dotted = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Dict):
            # A table of what is loaded on first use.
            dotted = [v.value for v in node.values if _names_module(v, modules)]
        elif isinstance(node, ast.Call):
            dotted = [
                argument.value
                for argument in node.args
                if "import_module" in ast.unparse(node.func)
                and _names_module(argument, modules)
            ]
        else:
            continue
        for one in dotted:
            if one.partition(".")[0] == root:
                yield module_of(one, modules)


def _names_module(node: ast.expr, modules: dict) -> bool:
    # A name without a dot is the package's, and may be any word.
    value = getattr(node, "value", None)
    return isinstance(value, str) and "." in value and value in modules


def module_of(dotted: str, modules: Iterable[str]) -> str:
    """The longest beginning of ``dotted`` that is a module."""
    while dotted not in modules:
        dotted = dotted.rpartition(".")[0]
    return dotted


def folder(module: str) -> str:
    """``vgpo.method.focus`` -> ``method``; empty for the package's own module."""
    return [*module.split("."), ""][1]


def between_folders(edges: Iterable[Edge]) -> Counter[Edge]:
    """How many pairs of modules stand behind each import between two folders."""
    pairs = ((folder(one), folder(other)) for one, other in edges)
    return Counter(pair for pair in pairs if pair[0] != pair[1])


def circle(edges: Iterable[Edge]) -> list[str]:
    """Modules that import each other in a circle, or none."""
    graph: dict[str, set[str]] = {}
    for one, other in edges:
        graph.setdefault(one, set()).add(other)
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1][::-1]
    return []


def definition(dotted: str, root: Path) -> tuple[Path, int]:
    """File and line where a function, class, method or constant is defined.

    Args:
        dotted: Such as ``vgpo.method.focus.visual_focus_score``.
        root: The folder in which the package lies.

    Raises:
        LookupError: Nothing is defined under that name in that place; a name that is
            merely imported there does not count.
    """
    parts = dotted.split(".")
    path = root
    while parts and (path / parts[0]).is_dir():
        path /= parts.pop(0)
    if parts and (path / f"{parts[0]}.py").is_file():
        path /= f"{parts.pop(0)}.py"
    else:
        path /= "__init__.py"
    if not path.is_file():
        raise LookupError(f"{dotted}: no such module")
    body, line = ast.parse(path.read_text(encoding="utf-8")).body, 1
    for part in parts:
        found = [node for node in body if part in _defined(node)]
        if not found:
            raise LookupError(f"{dotted}: {part} is not defined in {path.name}")
        line, body = found[-1].lineno, getattr(found[-1], "body", [])
    return path, line


def _defined(node: ast.stmt) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else []
    if isinstance(node, ast.AnnAssign):
        targets = [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]
