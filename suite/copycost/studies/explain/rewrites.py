"""Propose rewrites of a function, one for each finding that a rule covers. `proof` decides whether they are right."""

from __future__ import annotations

import ast
import copy
import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from copycost.studies.explain.findings import Finding, Kind, is_overwritable
from copycost.studies.explain.observe import Observation, Use

#: Name of the variable that a rewrite introduces.
_NAME = "result"

_SMALLER = ("float32", "float16")


@dataclass(frozen=True)
class Rewrite:
    """A change of one statement.

    Attributes
    ----------
    line : int
    statement : stmt
        Statement of the original tree.
    replacement : tuple of stmt
    """

    line: int
    statement: ast.stmt
    replacement: tuple[ast.stmt, ...]

    @property
    def text(self) -> str:
        """Source of the replacement."""
        return "\n".join(ast.unparse(statement) for statement in self.replacement)


def applied(tree: ast.Module, rewrites: Sequence[Rewrite]) -> ast.Module:
    """Return a tree in which the statements of some rewrites are replaced; the original is unchanged."""
    by_statement = {id(rewrite.statement): rewrite for rewrite in rewrites}

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST | list[ast.stmt]:
            rewrite = by_statement.get(id(getattr(node, "_original", node)))
            if rewrite is not None:
                return [ast.copy_location(copy.deepcopy(part), node) for part in rewrite.replacement]
            return self.generic_visit(node)

    copied = copy.deepcopy(tree)
    for node, original in zip(ast.walk(copied), ast.walk(tree), strict=True):
        node._original = original  # type: ignore[attr-defined]
    replaced = Replace().visit(copied)
    assert isinstance(replaced, ast.Module)
    return ast.fix_missing_locations(replaced)


def propose(tree: ast.AST, observation: Observation, findings: Sequence[Finding], numpy: str | None) -> list[Rewrite]:
    """Return candidates, in the order of the lines.

    Parameters
    ----------
    tree : AST
        Tree of the function, or of a script.
    observation : Observation
    findings : sequence of Finding
    numpy : str or None
        Name of NumPy in the module.
    """
    found: list[Rewrite] = []
    by_node = {id(node): number for number, node in observation.nodes.items()}
    numbers = {finding.node: finding.kind for finding in findings}
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    free_name = next(name for k in itertools.count(1) if (name := _NAME if k == 1 else f"{_NAME}_{k}") not in names)
    shared_names = {
        name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names
    }
    for statement in ast.walk(tree):
        if not isinstance(statement, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Return | ast.Expr):
            continue
        if is_overwritable(statement, observation):
            found.append(_written_over(statement))
            continue
        if _stores(statement, shared_names):
            continue  # what is stored elsewhere is not compared
        for expression in ast.walk(statement):
            number = by_node.get(id(expression))
            if number in numbers and isinstance(expression, ast.expr):
                use = observation.uses[number]
                for new in _replacements(expression, use, numbers[number], observation):
                    found.append(_with(statement, expression, new))
                if numbers[number] == Kind.TEMPORARY and isinstance(expression, ast.BinOp):
                    found += _in_two_steps(statement, expression, numpy, free_name)
    return sorted(found, key=lambda rewrite: rewrite.line)


def _stores(statement: ast.stmt, shared_names: set[str]) -> bool:
    """Return whether a statement stores a value outside of the function's own variables, or may do so in a call."""
    if isinstance(statement, ast.Expr):
        return True
    targets = statement.targets if isinstance(statement, ast.Assign) else [getattr(statement, "target", None)]
    return any(
        isinstance(node, ast.Subscript | ast.Attribute) or (isinstance(node, ast.Name) and node.id in shared_names)
        for place in targets
        if place is not None
        for node in ast.walk(place)
    )


def has_effects(tree: ast.AST) -> bool:
    """Return whether a function stores or prints anything beside its result, as far as its statements show."""
    shared = {name for node in ast.walk(tree) if isinstance(node, ast.Global | ast.Nonlocal) for name in node.names}
    statements = [
        node for node in ast.walk(tree) if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign | ast.Expr)
    ]
    return any(
        _stores(statement, shared)
        for statement in statements
        if not (isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant))  # a docstring
    )


def _replacements(node: ast.expr, use: Use, kind: Kind, observation: Observation) -> Iterator[ast.expr]:
    """Yield expressions that may take the place of one with a finding."""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        name, owner = node.func.attr, node.func.value
        if name == "astype" and kind == Kind.CAST and not any(word.arg == "copy" for word in node.keywords):
            yield _changed(node, keywords=[*node.keywords, ast.keyword("copy", ast.Constant(False))])
        elif name == "astype" and kind == Kind.FLOAT64 and not node.keywords:
            yield owner
        elif name == "array" and kind in (Kind.COPY, Kind.CAST) and len(node.args) == 1:
            yield _changed(node, func=ast.Attribute(owner, "asarray", ast.Load()))
        elif name in ("copy", "clone") and kind == Kind.COPY:
            yield node.args[0] if node.args else owner
        elif name == "flatten" and not node.args:
            yield _changed(node, func=ast.Attribute(owner, "ravel", ast.Load()))
        elif name == "ascontiguousarray" and kind == Kind.LAYOUT and node.args:
            yield node.args[0]
    if isinstance(node, ast.BinOp) and kind == Kind.FLOAT64:
        by_position = dict(use.operands)
        for position, operand in enumerate((node.left, node.right)):
            seen, other = by_position.get(position), by_position.get(1 - position)
            if seen is not None and other is not None and seen.dtype == "float64" and other.dtype in _SMALLER:
                yield _with_operand(node, position, _astype(operand, other.dtype))
        whole = [position for position, seen in by_position.items() if seen.dtype not in ("float64", *_SMALLER)]
        if len(by_position) == 1 and whole and isinstance(node.op, ast.Div | ast.Mult | ast.Add | ast.Sub):
            (only,) = whole
            assert only is not None
            yield _with_operand(node, only, _astype((node.left, node.right)[only], "float32"))


def _astype(operand: ast.expr, dtype: str) -> ast.expr:
    """Return an expression converted to another dtype: a literal array is made with the dtype."""
    if (
        isinstance(operand, ast.Call)
        and isinstance(operand.func, ast.Attribute)
        and operand.func.attr in ("array", "asarray", "ones", "zeros", "full", "arange", "linspace")
        and not any(word.arg == "dtype" for word in operand.keywords)
        and len(operand.args) == 1 + (operand.func.attr == "full")
    ):
        return _changed(operand, keywords=[*operand.keywords, ast.keyword("dtype", ast.Constant(dtype))])
    return ast.Call(ast.Attribute(operand, "astype", ast.Load()), [ast.Constant(dtype)], [])


def _changed(node: ast.Call, **fields: object) -> ast.Call:
    changed = ast.Call(node.func, node.args, node.keywords)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed


def _with_operand(node: ast.BinOp, position: int, operand: ast.expr) -> ast.BinOp:
    left, right = (operand, node.right) if position == 0 else (node.left, operand)
    return ast.BinOp(left, node.op, right)


def _with(statement: ast.stmt, expression: ast.expr, new: ast.expr) -> Rewrite:
    """Return a statement with another expression in the place of one."""

    class Replace(ast.NodeTransformer):
        def visit(self, node: ast.AST) -> ast.AST:
            return copy.deepcopy(new) if getattr(node, "_original", None) is expression else self.generic_visit(node)

    copied = copy.deepcopy(statement)
    for node, original in zip(ast.walk(copied), ast.walk(statement), strict=True):
        node._original = original  # type: ignore[attr-defined]
    replaced = Replace().visit(copied)
    assert isinstance(replaced, ast.stmt)
    return Rewrite(statement.lineno, statement, (ast.fix_missing_locations(replaced),))


def _written_over(statement: ast.stmt) -> Rewrite:
    """Return ``y ∘= e`` in the place of ``y = y ∘ e`` or ``y[:] = y ∘ e``."""
    assert isinstance(statement, ast.Assign)
    assert isinstance(statement.value, ast.BinOp)
    assert isinstance(statement.value.left, ast.Name)
    new = ast.AugAssign(ast.Name(statement.value.left.id, ast.Store()), statement.value.op, statement.value.right)
    return Rewrite(statement.lineno, statement, (ast.copy_location(new, statement),))


#: NumPy's function of an operator.
_FUNCTIONS = {ast.Add: "add", ast.Sub: "subtract", ast.Mult: "multiply", ast.Div: "divide"}


def _in_two_steps(statement: ast.stmt, expression: ast.BinOp, numpy: str | None, free_name: str) -> Iterator[Rewrite]:
    """Yield an assignment or a return of ``a ∘ b`` in two steps, of which the second writes over the result of a or b.

    Parameters
    ----------
    statement : stmt
    expression : BinOp
    numpy : str or None
        Name of NumPy in the module.
    free_name : str
        Name that the function does not use.
    """
    if isinstance(statement, ast.Return) and statement.value is expression:
        name, end = free_name, [ast.Return(ast.Name(free_name, ast.Load()))]
    elif (
        isinstance(statement, ast.Assign)
        and statement.value is expression
        and len(statement.targets) == 1
        and isinstance(target := statement.targets[0], ast.Name)
        and not any(isinstance(node, ast.Name) and node.id == target.id for node in ast.walk(expression))
    ):
        name, end = target.id, []
    else:
        return
    for side, other in ((expression.left, expression.right), (expression.right, expression.left)):
        if not isinstance(side, ast.BinOp | ast.Call):
            continue
        if side is expression.left or isinstance(expression.op, ast.Add | ast.Mult):
            second: ast.stmt = ast.AugAssign(ast.Name(name, ast.Store()), expression.op, other)
        elif numpy is not None and type(expression.op) in _FUNCTIONS:
            function = ast.Attribute(ast.Name(numpy, ast.Load()), _FUNCTIONS[type(expression.op)], ast.Load())
            own = ast.Name(name, ast.Load())
            second = ast.Expr(ast.Call(function, [other, own], [ast.keyword("out", own)]))
        else:
            continue
        steps: list[ast.stmt] = [ast.Assign([ast.Name(name, ast.Store())], side), second, *end]
        steps = [ast.fix_missing_locations(ast.copy_location(step, statement)) for step in steps]
        yield Rewrite(statement.lineno, statement, tuple(steps))


def numpy_name(tree: ast.Module) -> str | None:
    """Return the name by which a module knows NumPy, or None."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name == "numpy":
                    return alias.asname or "numpy"
    return None
