"""Extract the source code of a prepared call as a self-contained text: its function and all names that it uses.

This is the code that was measured: it comes from the function's own file, with the current values of its names. If a
value is too long to write as an expression, the text contains the code that prepares the call instead.
"""

from __future__ import annotations

import ast
import builtins
import dis
import functools
import sys
import sysconfig
import textwrap
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

#: Maximum number of elements of an array, list or dict that is written as an expression.
_LONGEST = 64

#: Maximum number of elements of a longer array that is inspected for a repeating pattern: calls may keep gigabytes.
_LARGEST = 2**22


class _Opaque(Exception):
    """Raised for a value or a function that cannot be written as source code."""


def code(call: Callable[..., Any], prepare: Callable[[Any], Callable[..., Any]] | None = None) -> str | None:
    """Return Python code that defines ``call``, else code that defines ``prepare``, or None if neither is possible.

    Parameters
    ----------
    call : callable
        ``call(x)`` or ``call(x, out)``.
    prepare : callable, optional
        The function whose result ``prepare(x)`` is ``call``.
    """
    for name, function in (("call", call), ("prepare", prepare)):
        if function is None:
            continue
        writer = _Writer()
        try:
            writer.function(name, function)
        except (_Opaque, OSError, SyntaxError, TypeError, ValueError):
            continue
        return writer.text() + ("\n\ncall = prepare(x)\n" if function is prepare else "")
    return None


class _Writer:
    """Collection of imports, constants and functions in the order in which they are needed."""

    def __init__(self) -> None:
        self.imports: dict[str, str] = {}
        self.constants: dict[str, str] = {}
        self.definitions: dict[str, str] = {}
        self._values: dict[str, Any] = {}

    def text(self) -> str:
        """Return the collected source code."""
        parts = ["\n".join(self.imports.values()), *self.definitions.values()]
        # Constants that use functions follow these functions.
        lines: dict[bool, list[str]] = {False: [], True: []}  # key: whether the constant uses a function
        for name, value in self.constants.items():
            lines[any(function in value for function in self.definitions)].append(f"{name} = {value}")
        parts.insert(1, "\n".join(lines[False]))
        if lines[True]:
            parts.insert(len(parts) - 1, "\n".join(lines[True]))
        body = "\n\n\n".join(filter(None, parts[1:]))
        separator = "\n\n" if parts[0] and parts[1] else "\n\n\n"
        return (parts[0] + separator if parts[0] else "") + body + "\n"

    def name(self, name: str, value: Any, used_attributes: Callable[[], set[str]] = set) -> None:
        """Define a name as a value; for a namespace, `used_attributes` returns the attributes to define."""
        if name in self._values:
            if self._values[name] is not value and not isinstance(value, types.SimpleNamespace):
                raise _Opaque  # two objects with the same name
            return
        self._values[name] = value
        if isinstance(value, types.ModuleType):
            self.imports[name] = f"import {value.__name__}" + (f" as {name}" if value.__name__ != name else "")
        elif imported := _import(name, value):
            self.imports[name] = imported
        elif isinstance(value, types.SimpleNamespace):
            self._import("types")
            attributes = {key: attribute for key, attribute in vars(value).items() if key in used_attributes()}
            for key, attribute in attributes.items():
                self.name(key, attribute)
            self.constants[name] = f"types.SimpleNamespace({', '.join(f'{key}={key}' for key in attributes)})"
        elif isinstance(value, type):
            self._class(name, value)
        elif callable(value) and not isinstance(value, functools.partial | np.dtype):
            self.function(name, value)
        else:
            self.constants[name] = self.value(value)

    def value(self, value: Any) -> str:
        """Return a value as an expression."""
        if value is None or value is Ellipsis or isinstance(value, bool | int | float | str):
            return "..." if value is Ellipsis else repr(value)
        if isinstance(value, slice):
            return f"slice({value.start!r}, {value.stop!r}, {value.step!r})"
        if isinstance(value, tuple | list | dict) and len(value) > _LONGEST:
            raise _Opaque
        if isinstance(value, tuple | list):
            items = ", ".join(map(self.value, value)) + ("," if isinstance(value, tuple) and len(value) == 1 else "")
            return f"({items})" if isinstance(value, tuple) else f"[{items}]"
        if isinstance(value, dict):
            return "{" + ", ".join(f"{self.value(key)}: {self.value(item)}" for key, item in value.items()) + "}"
        if isinstance(value, functools.partial):
            self._import("functools")
            arguments = [self._refer(value.func), *map(self.value, value.args)]
            arguments += [f"{key}={self.value(item)}" for key, item in value.keywords.items()]
            return f"functools.partial({', '.join(arguments)})"
        if isinstance(value, np.dtype):
            self.name("np", np)
            return f"np.dtype({value.name!r})"
        if isinstance(value, np.generic):
            self.name("np", np)
            return f"np.{value.dtype.name}({value.item() if value.dtype.itemsize == 8 else str(value)})"
        if isinstance(value, np.ndarray):
            return self._array(value)
        library, kind = type(value).__module__.partition(".")[0], type(value).__name__
        if library == "tensorflow" and kind == "DType":
            self.name("tf", sys.modules["tensorflow"])
            return f"tf.{value.name}"
        if library == "tensorflow" and kind == "EagerTensor":
            self.name("tf", sys.modules["tensorflow"])
            return f"tf.constant({self._array(np.asarray(memoryview(value)))})"
        if library == "torch" and kind == "Tensor":
            self._import("torch")
            return f"torch.from_numpy({self._array(value.detach().numpy())})"
        raise _Opaque

    def function(self, name: str, value: Any) -> None:
        """Define a function with its decorator and all names that it uses."""
        function, decorator = self._unwrap(value)
        lines, node = _node(function)
        for variable, content in _variables(function):
            if content is not value:
                self.name(variable, content, functools.partial(_attributes, node))
        if isinstance(node, ast.Lambda):
            body = _segment(lines, node.body)
            text = f"def {name}({ast.unparse(node.args)}):\n    return {body}"
        else:
            segment = _segment(lines, node)
            text = textwrap.dedent(" " * node.col_offset + segment)
            text = text.replace(f"def {node.name}(", f"def {name}(", 1)
            if node.name != name and any(variable == node.name for variable, _ in _variables(function)):
                raise _Opaque  # a recursive function, renamed
        if _has_annotations(node):
            self._no_annotations()
        self.definitions[name] = decorator + text

    def _class(self, name: str, value: type) -> None:
        lines, tree = _parse(_file(value))
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef) and node.name == value.__name__]
        if len(classes) != 1 or name != value.__name__ or classes[0].decorator_list:
            raise _Opaque
        namespace = vars(sys.modules[value.__module__])
        for child in ast.walk(ast.Module([*map(ast.Expr, classes[0].bases)], [])):
            if isinstance(child, ast.Name) and child.id in namespace:
                self.name(child.id, namespace[child.id])
        self._no_annotations()
        self.definitions[name] = textwrap.dedent(_segment(lines, classes[0]))

    def _no_annotations(self) -> None:
        """Disable the evaluation of annotations, so that their names need no imports."""
        self.imports = {"annotations": "from __future__ import annotations\n", **self.imports}

    def _array(self, array: np.ndarray) -> str:
        if array.size > _LARGEST:
            raise _Opaque
        self.name("np", np)
        flat = array.reshape(-1)
        period = next((size for size in (1, 3) if flat.size > _LONGEST and _repeats(flat, size)), None)
        if period is None and flat.size > _LONGEST:
            raise _Opaque
        part = array if period is None else flat[:period]
        # Convert by way of strings, which have no more digits than the dtype.
        numbers = (part.astype(str).astype(float) if array.dtype.kind == "f" else part.astype(int)).tolist()
        expression = f"np.array({numbers}, np.{array.dtype.name})"
        if period is None:
            return expression
        return f"np.resize({expression}, {array.shape if array.ndim > 1 else array.size})"

    def _import(self, module: str) -> None:
        self.name(module, sys.modules[module])

    def _refer(self, function: Any) -> str:
        """Define a function under its own name and return the name."""
        name: str = getattr(function, "__name__", "")
        if not name.isidentifier():
            raise _Opaque
        self.name(name, function)
        return name

    def _unwrap(self, value: Any) -> tuple[types.FunctionType, str]:
        """Return the Python function wrapped by a library, and the decorator line that wraps it."""
        library = type(value).__module__.partition(".")[0]
        if library == "tensorflow" and hasattr(value, "python_function"):
            self.name("tf", sys.modules["tensorflow"])
            arguments = "(jit_compile=True)" if getattr(value, "_jit_compile", None) else ""
            return _plain_function(value.python_function), f"@tf.function{arguments}\n"
        if library == "numba" and hasattr(value, "py_func"):
            self._import("numba")
            options = {k: v for k, v in value.targetoptions.items() if k in ("parallel", "fastmath") and v}
            arguments = ", ".join(f"{k}={v}" for k, v in options.items())
            return _plain_function(value.py_func), f"@numba.njit({arguments})\n"
        if isinstance(value, functools._lru_cache_wrapper):
            self._import("functools")
            return _plain_function(value.__wrapped__), "@functools.cache\n"
        return _plain_function(value), ""


def _plain_function(value: Any) -> types.FunctionType:
    # The source of a wrapper, such as a decorator's, is not the source of the wrapped function.
    if not isinstance(value, types.FunctionType) or hasattr(value, "__wrapped__"):
        raise _Opaque
    return value


def _variables(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield the name and value of each free or global variable of a function and its nested functions."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        yield name, cell.cell_contents
    for name in dict.fromkeys(_global_names(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]
        elif not hasattr(builtins, name):
            raise _Opaque


def _global_names(code: types.CodeType) -> Iterator[str]:
    for instruction in dis.get_instructions(code):
        if instruction.opname in ("LOAD_GLOBAL", "LOAD_NAME"):
            yield instruction.argval
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _global_names(constant)


def _import(name: str, value: Any) -> str | None:
    """Return the import statement of a library's function or class, or None for any other value."""
    module = getattr(value, "__module__", None)
    if not (isinstance(value, type) or callable(value)) or not isinstance(module, str) or module == "__main__":
        return None
    root = module.partition(".")[0]
    own_name = getattr(value, "__name__", "")
    if root == "copycost" or not _is_library(sys.modules.get(module)):
        return None
    # Prefer its public module, if there is one.
    places = [place for place in list(sys.modules) if place == root or place.startswith(root + ".")]
    places = [place for place in places if vars(sys.modules[place]).get(own_name) is value]
    if not places:
        return None
    place = min(places, key=lambda place: ("src" in place or "_" in {part[0] for part in place.split(".")}, len(place)))
    return f"from {place} import {own_name}" + (f" as {name}" if name != own_name else "")


@functools.cache
def _is_library(module: types.ModuleType | None) -> bool:
    file = getattr(module, "__file__", None)
    libraries = {sysconfig.get_path(kind) for kind in ("stdlib", "platstdlib", "purelib", "platlib")}
    return file is None or any(file.startswith(folder + "/") for folder in libraries)


def _repeats(flat: np.ndarray, period: int) -> bool:
    return bool(np.array_equal(flat[period:], flat[:-period]))


def _file(value: type) -> str:
    file = getattr(sys.modules.get(value.__module__), "__file__", None)
    if file is None:
        raise _Opaque
    return file


@functools.cache
def _parse(file: str) -> tuple[list[bytes], ast.Module]:
    source = Path(file).read_bytes()
    return source.splitlines(), ast.parse(source)


def _segment(lines: list[bytes], node: ast.expr | ast.stmt) -> str:
    """Return the source text of a node, whose column offsets count bytes."""
    segment = lines[node.lineno - 1 : node.end_lineno]
    segment[-1] = segment[-1][: node.end_col_offset]
    segment[0] = segment[0][node.col_offset :]
    return b"\n".join(segment).decode()


def _node(function: types.FunctionType) -> tuple[list[bytes], ast.Lambda | ast.FunctionDef]:
    """Return the lines of a function's file, and the function's node in its syntax tree."""
    bytecode = function.__code__
    lines, tree = _parse(bytecode.co_filename)
    kind = ast.Lambda if bytecode.co_name == "<lambda>" else ast.FunctionDef
    places = [(line, column) for line, _, column, _ in bytecode.co_positions() if line and column]
    nodes = [
        node
        for node in ast.walk(tree)
        if isinstance(node, kind)
        and min([node.lineno, *(decorator.lineno for decorator in getattr(node, "decorator_list", ()))])
        == bytecode.co_firstlineno
        # A line may contain several lambdas.
        and (kind is not ast.Lambda or all(_start(node) <= place <= _end(node) for place in places))
    ]
    if not nodes:
        raise _Opaque
    # Choose the innermost of nested lambdas.
    return lines, max(nodes, key=_start)


def _attributes(node: ast.AST) -> set[str]:
    return {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}


def _has_annotations(node: ast.AST) -> bool:
    return any(
        getattr(child, "annotation", None) is not None or getattr(child, "returns", None) is not None
        for child in ast.walk(node)
    )


def _start(node: ast.Lambda | ast.FunctionDef) -> tuple[int, int]:
    return node.lineno, node.col_offset


def _end(node: ast.Lambda | ast.FunctionDef) -> tuple[int, int]:
    return node.end_lineno or 0, node.end_col_offset or 0
