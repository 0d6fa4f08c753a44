"""The house: who imports whom, how long a file is, what stands in a definition, and which names are public."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
from pathlib import Path

import pytest

import dlref
from dlref.core import compat

ROOT = Path(dlref.__file__).parents[1]
FILES = sorted((ROOT / "dlref").rglob("*.py"))
# A room may import those before it, and its own.
ROOMS = ("core", "builtin", "manual", "models", "data", "pictures", "samples", "reuse", "verify", "step", "lightning",
         "estimators", "experiments", "bench", "report", "cli")  # fmt: skip
# The loops over steps stand above the step that they take: dlref.manual.training and dlref.builtin.training.
ABOVE = {("dlref.manual.training", "step"), ("dlref.builtin.training", "manual"), ("dlref.report", "cli")}
TUNING = {"plain", "own", "fusing", "select", "where_zero", "zero_where", "kernels_run"}


def module(file: Path) -> str:
    name = ".".join(file.relative_to(ROOT).with_suffix("").parts)
    return name.removesuffix(".__init__")


MODULES = {module(file): file for file in FILES}


def imports(name: str) -> set[str]:
    """The modules of dlref that a module imports, late imports too; those for the type checker alone are none."""
    file, found = MODULES[name], set()
    tree = ast.parse(file.read_text())
    typing = {node for part in ast.walk(tree) if isinstance(part, ast.If) and "TYPE_CHECKING" in ast.unparse(part.test)
              for node in ast.walk(part)}  # fmt: skip
    package = name if file.name == "__init__.py" else name.rpartition(".")[0]
    for node in ast.walk(tree):
        if node in typing:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), package)
                if node.level
                else node.module
            )
            found |= {f"{base}.{a.name}" if f"{base}.{a.name}" in MODULES else base for a in node.names}
    return found & MODULES.keys() - {name}


GRAPH = {name: imports(name) for name in MODULES}


def test_no_two_files_import_each_other():
    done: set[str] = set()

    def walk(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"a circle of imports: {' -> '.join((*path[path.index(name) :], name))}"
        if name not in done:
            for other in sorted(GRAPH[name]):
                walk(other, (*path, name))
            done.add(name)

    for name in GRAPH:
        walk(name, ())


def test_imports_go_one_way():
    def room(name: str) -> str:
        return name.split(".")[1] if "." in name else ""

    for name, others in GRAPH.items():
        if room(name) not in ROOMS:
            continue
        before = ROOMS[: ROOMS.index(room(name)) + 1]
        wrong = {o for o in others if room(o) and room(o) not in before and (name, room(o)) not in ABOVE}
        assert not wrong, f"{name} imports {sorted(wrong)}, of rooms that stand after {room(name)}"


DEFINITIONS = [f for f in FILES if f.parent.name == "nn" and f.parent.parent.name == "manual"]
# What torch defines as a write: running statistics, singular vectors, rows of too large a norm, clipped gradients, `out`.
WRITES = {
    "batchnorm.py": {"copy_", "add_"},
    "distance.py": {"copy_", "resize_"},
    "parametrization.py": {"copy_"},
    "perceptron.py": {"scatter_add_"},
    "softmax.py": {"exponential_"},
    "sparse.py": {"copy_"},
    "utils.py": {"mul_", "clamp_"},
}


def tuning(node: ast.AST) -> str:
    """What of the tuning words a node of the syntax is; empty where it is none."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name = node.func.attr
        return name if name.endswith("_") and not name.startswith("_") and name != "requires_grad_" else ""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in TUNING:
        return node.func.id
    if isinstance(node, ast.keyword) and node.arg == "out":
        return "out="
    return "place" if isinstance(node, ast.arg) and node.arg == "place" else ""


@pytest.mark.parametrize("file", FILES, ids=lambda f: str(f.relative_to(ROOT)))
def test_no_file_is_long(file):
    assert len(file.read_text().splitlines()) <= 500


@pytest.mark.parametrize("file", DEFINITIONS, ids=lambda f: f.name)
def test_definitions_hold_mathematics_alone(file):
    found = {word for node in ast.walk(ast.parse(file.read_text())) if (word := tuning(node))}
    assert not found - WRITES.get(file.name, set())


def public() -> dict[str, dict[str, str]]:
    """Every public name by its room, and the signature where it is ours to keep."""
    found: dict[str, dict[str, str]] = {"dlref": dict.fromkeys(dlref.__all__, "")}
    for side in ("manual", "builtin"):
        for room in ("amp", "functional", "nn", "optim", "optim.lr_scheduler", "init", "training"):
            space = importlib.import_module(f"dlref.{side}.{room}") if side == "manual" or "." not in room else None
            if space is None:
                continue
            names = getattr(space, "__all__", None) or [n for n in vars(space) if not n.startswith("_")]
            found[f"{side}.{room}"] = {n: shown(getattr(space, n)) for n in sorted(names) if kept(getattr(space, n))}
    for room in ("data", "samples", "models", "lightning", "estimators"):
        space = importlib.import_module(f"dlref.{room}")
        names = [n for n, v in vars(space).items() if not n.startswith("_") and kept(v)]
        found[room] = {n: shown(getattr(space, n)) for n in sorted(names)}
    return found


def kept(value: object) -> bool:
    where = str(getattr(value, "__module__", ""))
    return callable(value) and not inspect.ismodule(value) and where.startswith(("dlref", "torch.nn", "torch.optim"))


def shown(value: object) -> str:
    """The names of the parameters of what is defined here; torch's own may grow with torch."""
    if not str(getattr(value, "__module__", "")).startswith("dlref") or isinstance(value, type):
        return ""
    return ", ".join(inspect.signature(value).parameters)  # type: ignore[arg-type]


SNAPSHOT = Path(__file__).parent / "public_names.json"


def test_public_names_and_signatures_stay():
    """CONTRIBUTING.md says how one is deprecated; `python tests/test_rooms.py` writes the file anew where one is added."""
    was, now = json.loads(SNAPSHOT.read_text()), public()
    for room, names in was.items():
        ours = names if compat.TORCH == compat.NEWEST else [n for n in names if not room.startswith("builtin")]
        assert not set(ours) - set(now[room]), f"dlref.{room} has lost {sorted(set(ours) - set(now[room]))}"
        if compat.TORCH == compat.NEWEST:
            changed = {n for n, signature in names.items() if now[room][n] != signature}
            assert not changed, f"other parameters in dlref.{room}: {sorted(changed)}"
    added = {room: sorted(set(now[room]) - set(was.get(room, {}))) for room in now}
    if compat.TORCH != compat.NEWEST:
        added = {room: names for room, names in added.items() if not room.startswith("builtin")}
    assert not any(added.values()), f"new public names, to be written down by `python {Path(__file__).name}`: {added}"


if __name__ == "__main__":
    SNAPSHOT.write_text(json.dumps(public(), indent=1, sort_keys=True) + "\n")
