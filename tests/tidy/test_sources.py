"""The source tree keeps its own rules: sizes, directions, and words that must not be left behind."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
import tomllib
from typing import Final

from tests.tidy.tree import ROOT, files, imports, parsed, short, sources

LINES_MAX: Final = 400
FUNCTION_LINES_MAX: Final = 50

#: Files and functions that may be longer, each with the reason why it is one room all the same.
LONGER_FILES: Final[dict[str, tuple[int, str]]] = {}
LONGER_FUNCTIONS: Final[dict[str, tuple[int, str]]] = {}

TEXT: Final = (".py", ".md", ".toml", ".yaml", ".yml", ".json", ".sh", ".svg", "")
SHIPPED: Final = sources()
SERVING: Final = tuple(
    path
    for path in SHIPPED
    if short(path).startswith("stream/") and not short(path).startswith("stream/ops/")
)

#: What the core may import beside itself: numbers, the compiler, and types.
CORE_IMPORTS: Final = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "functools",
    "math",
    "numba",
    "numpy",
    "typing",
}
#: The files of the core that know a machine: where machine code is cached, and how memory is handed out.
CORE_AND_MACHINE: Final = {"stream/core/compiled.py", "stream/core/memory.py"}


def functions(tree: ast.Module) -> list[tuple[str, int]]:
    """Return each function's name and its number of lines, docstring left out."""
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            first = node.body[0]
            spoken = isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant)
            docstring = (first.end_lineno or 0) - first.lineno + 1 if spoken else 0
            found.append((node.name, (node.end_lineno or 0) - node.lineno + 1 - docstring))
    return found


def test_a_file_is_a_room() -> None:
    sizes = {short(path): path.read_text().count("\n") for path in files(".py")}
    long = {name: n for name, n in sizes.items() if n > LONGER_FILES.get(name, (LINES_MAX, ""))[0]}
    assert not long, "lines: is it more than one idea?"


def test_a_function_fits_a_screen() -> None:
    sizes = {
        f"{short(path)}:{name}": lines for path in files(".py") for name, lines in functions(parsed(path))
    }
    limits = {name: LONGER_FUNCTIONS.get(name, (FUNCTION_LINES_MAX, ""))[0] for name in sizes}
    long = {name: lines for name, lines in sizes.items() if lines > limits[name]}
    assert not long, "lines: a function that no longer fits a screen is two"


def test_exceptions_from_the_limits_are_needed_and_reasoned() -> None:
    for name, (limit, reason) in LONGER_FILES.items():
        assert LINES_MAX < (ROOT / name).read_text().count("\n") <= limit, name
        assert reason.endswith("."), name
    for name, (_, reason) in LONGER_FUNCTIONS.items():
        file, _, function = name.partition(":")
        lines = dict(functions(parsed(ROOT / file)))
        assert lines[function] > FUNCTION_LINES_MAX, f"{name} fits by now: take it off the list"
        assert reason.endswith("."), name


def test_a_module_says_what_it_is() -> None:
    trees = {short(path): parsed(path) for path in SHIPPED}
    silent = [name for name, tree in trees.items() if tree.body and not ast.get_docstring(tree)]
    assert not silent, "no docstring"


def test_nothing_unfinished_and_no_path_of_one_machine() -> None:
    unfinished = re.compile("TO" + "DO|FIX" + "ME|X" + "XX")
    machine = re.compile(r"(?<![\w.])/(?:work|root|farm|Users|home/\w+)/")
    found = [
        f"{short(path)}:{n}: {line.strip()}"
        for path in files(*TEXT)
        for n, line in enumerate(path.read_text(errors="replace").splitlines(), 1)
        if unfinished.search(line) or machine.search(line)
    ]
    assert not found


def test_the_core_imports_numbers_and_itself_only() -> None:
    strange = {
        f"{short(path)} imports {name}"
        for path in SHIPPED
        if short(path).startswith("stream/core/") and short(path) not in CORE_AND_MACHINE
        for name in imports(path)
        if not (name + ".").startswith("stream.core.") and name.split(".")[0] not in CORE_IMPORTS
    }
    assert not strange


def test_serving_imports_what_it_declares_and_nothing_else() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[<>=\[ ]", need)[0].replace("-", "_") for need in project["dependencies"]}
    allowed = declared | {"stream"} | sys.stdlib_module_names
    strange = {
        f"{short(path)} imports {name}"
        for path in SERVING
        for name in imports(path)
        if name.split(".")[0] not in allowed
    }
    assert not strange


def test_serving_never_loads_torch() -> None:
    modules = [
        short(path).removesuffix(".py").removesuffix("/__init__").replace("/", ".") for path in SERVING
    ]
    program = (
        "import importlib, sys\n"
        f"for name in {modules!r}: importlib.import_module(name)\n"
        "heavy = {'torch', 'onnx', 'faust', 'models', 'export', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'loaded: {heavy}' if heavy else 0)\n"
    )
    ran = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr


def test_the_demo_is_small_enough_to_ship() -> None:
    demo = ROOT / "stream" / "demo"
    size = sum(path.stat().st_size for path in files() if path.is_relative_to(demo))
    assert size < 5_000_000, f"stream/demo has {size:,} bytes"
