"""Refuse three constructions that make a reader stop; ruff has no rule for them.

- a conditional expression inside another one;
- `a, b = x, y`, which packs unrelated values into one statement (a swap is allowed);
- a list, tuple or string multiplied by a condition.
"""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path


def is_nested_conditional(node: ast.AST) -> bool:
    """Tell whether a conditional expression contains another one."""
    if not isinstance(node, ast.IfExp):
        return False

    return any(isinstance(child, ast.IfExp) for child in ast.walk(node) if child is not node)


def is_packed_assignment(node: ast.AST) -> bool:
    """Tell whether an assignment has a tuple on both sides and is not a swap."""
    if not isinstance(node, ast.Assign) or not isinstance(node.value, ast.Tuple):
        return False

    values = sorted(ast.unparse(value) for value in node.value.elts)
    for target in node.targets:
        if isinstance(target, ast.Tuple):
            names = sorted(ast.unparse(name) for name in target.elts)
            if names != values:
                return True

    return False


def is_sequence(node: ast.AST) -> bool:
    """Tell whether a node is a list, a tuple or a text literal."""
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str | bytes)

    return isinstance(node, ast.List | ast.Tuple | ast.ListComp | ast.JoinedStr)


def is_condition(node: ast.AST) -> bool:
    """Tell whether a node can only be a truth value."""
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in ("bool", "isinstance")
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Not)
    if isinstance(node, ast.Constant):
        return isinstance(node.value, bool)

    return isinstance(node, ast.Compare | ast.BoolOp)


def is_sequence_times_condition(node: ast.AST) -> bool:
    """Tell whether a product repeats a sequence once or not at all."""
    if not isinstance(node, ast.BinOp) or not isinstance(node.op, ast.Mult):
        return False

    pairs = ((node.left, node.right), (node.right, node.left))
    return any(is_sequence(sequence) and is_condition(times) for sequence, times in pairs)


RULES = {
    "nested conditional expression; use an if statement": is_nested_conditional,
    "tuple-packed assignment; assign one value a line": is_packed_assignment,
    "sequence multiplied by a condition; use an if statement": is_sequence_times_condition,
}


def find_violations(source: str) -> Iterator[tuple[int, str]]:
    """Yield the line number and the message of each violation in a module's source."""
    for node in ast.walk(ast.parse(source)):
        for message, is_violation in RULES.items():
            if is_violation(node):
                yield getattr(node, "lineno", 0), message


def main() -> None:
    """Check the files and folders that are named, and end with status 1 if any is refused."""
    paths: list[Path] = []
    for argument in map(Path, sys.argv[1:]):
        if argument.is_dir():
            paths += sorted(argument.rglob("*.py"))
        else:
            paths.append(argument)

    count = 0
    for path in paths:
        for line, message in sorted(find_violations(path.read_text())):
            print(f"{path}:{line}: {message}")
            count += 1

    if count:
        sys.exit(f"{count} violations")


if __name__ == "__main__":
    main()
