"""No pool of worker processes may outlive a command that is killed: one by one this is tested where it was a bug
(test_timeliness, test_train); here, that none is forgotten."""

import ast

import pytest

from tests.command_line import ROOT

PACKAGES = ("aura_core", "data_pipeline", "train", "evals")
MODULES = [file for package in PACKAGES for file in sorted((ROOT / package).rglob("*.py"))]


def named(node: ast.expr | None) -> str:
    """The name, or the last part of a dotted one; "" for anything else."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def initializer(pool: ast.Call) -> str:
    """What starts the workers of a pool; "" where nothing does."""
    given = [word.value for word in pool.keywords if word.arg == "initializer"] or pool.args[2:3]
    return named(given[0] if given else None)


def initializers(tree: ast.AST) -> list[str]:
    """What starts the workers of each pool in a module."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [initializer(call) for call in calls if named(call.func) == "ProcessPoolExecutor"]


def ending(tree: ast.AST) -> set[str]:
    """The functions of a module that call `end_with_parent`, and that itself."""
    functions = (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef))
    return {"end_with_parent"} | {
        function.name
        for function in functions
        if any(isinstance(node, ast.Call) and named(node.func) == "end_with_parent" for node in ast.walk(function))
    }


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("ProcessPoolExecutor(2, spawn, end_with_parent)", True),
        ("ProcessPoolExecutor(2, initializer=end_with_parent)", True),
        ("def start(): end_with_parent()\nProcessPoolExecutor(2, spawn, start)", True),
        ("def start(): pass\nProcessPoolExecutor(2, spawn, start)", False),
        ("ProcessPoolExecutor(2)", False),
        ("futures.ProcessPoolExecutor(2)", False),
        ("ProcessPoolExecutor(2, spawn, processes.end_with_parent)", True),
    ],
)
def test_what_counts(code, found):
    tree = ast.parse(code)
    assert (set(initializers(tree)) <= ending(tree)) is found


def test_every_pool_ends_with_its_parent():
    trees = {file: ast.parse(file.read_text(encoding="utf-8")) for file in MODULES}
    pools = {file: initializers(tree) for file, tree in trees.items() if initializers(tree)}
    assert len(pools) >= 4
    assert [file for file, starts in pools.items() if not set(starts) <= ending(trees[file])] == []
