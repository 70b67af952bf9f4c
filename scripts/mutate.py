"""Flip one operator, constant or function at a time in a module; every mutant should turn its tests red.

    python scripts/mutate.py rlpost/objective/clipped.py tests/objective [function ...]

The module is changed in a copy of the package, never in place. Exit 1 if a mutant survives.
"""

import ast
import copy
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis  # noqa: F401  imported once here so that every fork starts with it
import pytest
import torch

OPERATORS = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr, ast.BitOr: ast.BitAnd, ast.USub: ast.UAdd, ast.Not: ast.UAdd,
    ast.Gt: ast.Lt, ast.Lt: ast.Gt, ast.GtE: ast.Lt, ast.LtE: ast.Gt, ast.Eq: ast.NotEq, ast.NotEq: ast.Eq,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.And: ast.Or, ast.Or: ast.And,
}  # fmt: skip
NAMES = {
    "minimum": "maximum", "maximum": "minimum", "min": "max", "max": "min", "sum": "mean", "mean": "sum",
    "exp": "expm1",
    "row_mean": "row_sum", "row_sum": "row_mean", "group_mean": "group_sum", "group_sum": "group_mean", "any": "all",
    "all": "any", "detach": "clone", "abs": "neg", "nansum": "nanmean", "batch_mean": "batch_std",
}  # fmt: skip


def main(path: str, tests: str, functions: list[str]) -> int:
    """Run every mutant of the module (or only of some of its functions) against the tests."""
    torch.set_num_threads(1)  # a fork must not inherit a pool of threads
    root, source = Path.cwd(), Path(path).read_text()
    survivors = total = 0
    with tempfile.TemporaryDirectory() as place:
        for folder in ("rlpost", "recipes", "tests"):
            shutil.copytree(root / folder, Path(place) / folder, ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(root / "pyproject.toml", place)
        target = Path(place) / path
        if not passes(Path(place), tests):
            print(f"{tests} fails before any mutation; mend it first")
            return 1
        for what, code in mutants(ast.parse(source), functions):
            target.write_text(code)
            total += 1
            if passes(Path(place), tests):
                survivors += 1
                print(f"SURVIVED {path}: {what}", flush=True)
    print(f"{total - survivors}/{total} mutants of {path} killed")
    return int(survivors > 0)


def passes(place: Path, tests: str) -> bool:
    """Do the tests pass with the package as it stands in `place`? Run in a fork, which has torch imported already."""
    child = os.fork()
    if child == 0:
        os.chdir(place)
        sys.path[:0] = [str(place)]
        sys.dont_write_bytecode = True
        quiet = os.open(os.devnull, os.O_WRONLY)
        os.dup2(quiet, 1)
        os.dup2(quiet, 2)
        os._exit(int(pytest.main(["-q", "-x", "-p", "no:cacheprovider", "--timeout", "60", *tests.split(",")])))
    return os.waitpid(child, 0)[1] == 0


def mutants(tree: ast.Module, functions: list[str]) -> Iterator[tuple[str, str]]:
    """Every changed copy of the module, with a line that says what was changed."""
    count = len(sites(tree, functions))
    for i in range(count):
        for way in range(2):
            changed = copy.deepcopy(tree)
            node = sites(changed, functions)[i]
            said = flip(node, way)
            if said:
                yield f"line {getattr(node, 'lineno', '?')}: {said}", ast.unparse(ast.fix_missing_locations(changed))


def sites(tree: ast.Module, functions: list[str]) -> list[ast.AST]:
    """The nodes inside function bodies, without docstrings and annotations."""
    found: list[ast.AST] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and (not functions or node.name in functions):
            first = isinstance(node.body[0], ast.Expr) and isinstance(node.body[0].value, ast.Constant)
            for statement in [*node.body[first:], *node.args.kw_defaults]:
                if statement is not None and not isinstance(statement, ast.Raise):
                    found += [inner for inner in ast.walk(statement) if not inside_raise(statement, inner)]
    return list({id(n): n for n in found}.values())


def inside_raise(statement: ast.AST, node: ast.AST) -> bool:
    """Error texts are no mathematics: leave them alone."""
    return any(isinstance(r, ast.Raise) and any(node is x for x in ast.walk(r)) for r in ast.walk(statement))


def flip(node: ast.AST, way: int) -> str:
    """Change one node in place; "" where there is nothing to change."""
    if way == 1:
        if isinstance(node, ast.BinOp) and not isinstance(node.op, ast.BitOr | ast.BitAnd):
            before = ast.unparse(node)
            node.right = ast.BinOp(node.right, ast.Mult(), ast.Constant(1.5))
            return f"{before} -> {ast.unparse(node)}"
        return ""
    before = ast.unparse(node)
    if isinstance(node, ast.BinOp | ast.UnaryOp | ast.BoolOp) and type(node.op) in OPERATORS:
        node.op = OPERATORS[type(node.op)]()
    elif isinstance(node, ast.Compare) and type(node.ops[0]) in OPERATORS:
        node.ops[0] = OPERATORS[type(node.ops[0])]()
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
        node.value = node.value + 1
    elif isinstance(node, ast.Attribute) and node.attr in NAMES:
        node.attr = NAMES[node.attr]
    elif isinstance(node, ast.Name) and node.id in NAMES and isinstance(node.ctx, ast.Load):
        node.id = NAMES[node.id]
    else:
        return ""
    return f"{before} -> {ast.unparse(node)}"


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    sys.exit(main(sys.argv[1], sys.argv[2], sys.argv[3:]))
