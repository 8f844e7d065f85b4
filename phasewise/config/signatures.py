"""What a class or function takes, by its dotted name.

Of large libraries and of this project the source is read and nothing is imported: `--help` and
refusals stay quick. Any other package is imported.
"""

from __future__ import annotations

import ast
import inspect
import sysconfig
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import Parameter, Signature
from pathlib import Path
from typing import Any

from phasewise.config.help import did_you_mean
from phasewise.project import is_shipped

READ = ("torch", "lightning", "pytorch_lightning", "torchmetrics", "phasewise")
"""Packages whose source is read instead of importing them."""

TARGET = "_target_"

OPTIMIZERS = ("torch.optim.Adam", "torch.optim.AdamW", "torch.optim.SGD", "torch.optim.RMSprop")
"""Those that have a file in ``conf/optimizer`` and a schema."""

TRAINER = "lightning.pytorch.trainer.trainer.Trainer"

ANYTHING = Signature(
    [Parameter("args", Parameter.VAR_POSITIONAL), Parameter("kwargs", Parameter.VAR_KEYWORD)]
)


def is_foreign(target: Any) -> bool:
    """Whether a name leads to something that neither comes with this project nor has a schema."""
    return not is_shipped(target) and target not in OPTIMIZERS


def targets_of(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """All ``_target_`` in nested plain containers, with the dotted keys of the parts."""
    items: Iterable[tuple[Any, Any]] = node.items() if isinstance(node, Mapping) else ()
    if isinstance(node, list | tuple):
        items = enumerate(node)
    for key, value in items:
        if key == TARGET:
            yield prefix, value
        else:
            yield from targets_of(value, f"{prefix}.{key}" if prefix else str(key))


def foreign_targets(node: Any, prefix: str = "") -> dict[str, str]:
    """The foreign parts of a config, of plain containers, by their dotted keys."""
    found = targets_of(node, prefix)
    return {key: target for key, target in found if isinstance(target, str) and is_foreign(target)}


def source_file(target: str) -> Path | None:
    """Where a part's code lies, found without importing it; None of an installed package, which a
    version tells, and where there is none."""
    parts = target.split(".")
    names = (".".join(parts[:end]) for end in range(len(parts) - 1, 0, -1))
    try:
        found = next((file for file in map(_file, names) if file is not None), None)
    except (ImportError, ValueError):  # a name that cannot be one, or of a damaged package
        return None
    installed = (sysconfig.get_path(name) for name in ("stdlib", "platlib", "purelib"))
    return found if found and not any(map(found.is_relative_to, installed)) else None


class TargetError(Exception):
    """A dotted name that leads nowhere; the message says why in one line."""


class _Unclear(Exception):
    """The source alone does not say it."""


@cache
def signature_of(target: str) -> Signature:
    """The arguments of what ``target`` names, a class's without ``self``.

    Default values that are no literals are their source, as text.

    Raises:
        TargetError: there is no such thing, it cannot be imported, or it cannot be called.
    """
    if target.partition(".")[0] in READ:
        try:
            module, node = _find(target)
            return _signature(module, node)
        except _Unclear:
            pass
    found = find_object(target)
    if not callable(found):
        raise TargetError(f"{target} is neither a class nor a function")
    try:
        signature = inspect.signature(found)
    except ValueError:  # of a class that is not written in Python
        return ANYTHING
    return _with_bases(found, signature) if isinstance(found, type) else signature


def _with_bases(found: type, signature: Signature) -> Signature:
    """With the arguments that ``**settings`` may hand on to the classes below; whether these need
    them is not known, since the class may give them itself."""
    *named, last = [*signature.parameters.values()] or [Parameter("none", Parameter.KEYWORD_ONLY)]
    if last.kind is not Parameter.VAR_KEYWORD:
        return signature
    known = {it.name: it for it in named}
    for base in found.__mro__[1:-1]:
        if (made := vars(base).get("__init__")) is None:
            continue
        below = [*inspect.signature(made).parameters.values()][1:]
        for it in below:
            if it.kind in (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY):
                default = None if it.default is Parameter.empty else it.default
                known.setdefault(it.name, it.replace(kind=Parameter.KEYWORD_ONLY, default=default))
        if not any(it.kind is Parameter.VAR_KEYWORD for it in below):
            break
    return signature.replace(parameters=[*known.values(), last])


def trainer_arguments() -> dict[str, Parameter]:
    """The arguments of Lightning's ``Trainer`` by name."""
    return dict(signature_of(TRAINER).parameters)


def find_object(target: str) -> Any:
    """Import what ``target`` names.

    Raises:
        TargetError: see `signature_of`.
    """
    parts = target.split(".")
    if len(parts) < 2 or not all(part.isidentifier() for part in parts):
        raise TargetError("must be the full name of a class, e.g. mypackage.module.Class")
    for end in range(len(parts) - 1, 0, -1):
        name = ".".join(parts[:end])
        try:
            found = import_module(name)
        except ModuleNotFoundError as error:
            if name != error.name and not name.startswith(f"{error.name}."):
                raise TargetError(f"{name} needs {error.name}, which is not installed") from error
            continue
        except Exception as error:  # whatever a module may raise
            reason = (str(error) or repr(error)).splitlines()[0]
            raise TargetError(f"{name} cannot be imported: {reason}") from error
        for part in parts[end:]:
            if not hasattr(found, part):
                raise TargetError(_no_name(name, part, dir(found)))
            found, name = getattr(found, part), f"{name}.{part}"
        return found
    raise TargetError(f"no package {parts[0]} here; it must be installed, or lie on PYTHONPATH")


def _no_name(module: str, name: str, names: Sequence[str]) -> str:
    return f"{module} has no {name}{did_you_mean(name, names)}"


def _find(target: str, depth: int = 0) -> tuple[str, ast.AST]:
    """The module and the definition of what a name leads to.

    Raises:
        TargetError: the source has no such name.
        _Unclear: the source alone does not say it.
    """
    parts = target.split(".")
    end = next((n for n in range(len(parts) - 1, 0, -1) if _file(".".join(parts[:n]))), 0)
    if end != len(parts) - 1 or depth > 9:
        raise _Unclear
    module, name = ".".join(parts[:-1]), parts[-1]
    names = dict(_names(module))
    if (node := names.get(name)) is None:
        if _file(target) or "*" in names or "__getattr__" in names:
            raise _Unclear
        raise TargetError(_no_name(module, name, [*names]))
    if isinstance(node, str):
        return _find(node, depth + 1)
    return module, node


@cache
def _file(module: str) -> Path | None:
    """The source of a module, found without importing it or a package around it."""
    root, *parts = module.split(".")
    spec = find_spec(root)
    if spec is None:
        return None
    if spec.submodule_search_locations is None and not parts and spec.has_location:
        return Path(str(spec.origin))  # a module without a package
    for folder in spec.submodule_search_locations or []:
        place = Path(folder, *parts)
        for file in (place / "__init__.py", place.with_suffix(".py") if parts else place):
            if file.is_file():
                return file
    return None


@cache
def _names(module: str) -> tuple[tuple[str, ast.AST | str], ...]:
    """The names of a module with their definitions, imported ones with what they lead to."""
    file = _file(module)
    if file is None:
        raise _Unclear
    inside = file.name == "__init__.py"
    return tuple(_defined(ast.parse(file.read_bytes()).body, module, inside=inside))


def _defined(
    body: Sequence[ast.stmt], module: str, *, inside: bool
) -> Iterator[tuple[str, ast.AST | str]]:
    for node in body:
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            yield node.name, node
        elif isinstance(node, ast.ImportFrom):
            parts = module.split(".")
            around = parts[: len(parts) - node.level + inside] if node.level else []
            source = ".".join([*around, *([node.module] if node.module else [])])
            for alias in node.names:
                yield alias.asname or alias.name, f"{source}.{alias.name}"
        elif isinstance(node, ast.If | ast.Try):
            yield from _defined([*node.body, *node.orelse], module, inside=inside)
        elif isinstance(node, ast.Assign):
            yield from ((it.id, node) for it in node.targets if isinstance(it, ast.Name))


def _signature(module: str, node: ast.AST) -> Signature:
    if isinstance(node, ast.FunctionDef):
        return Signature([*_parameters(node.args)])
    if not isinstance(node, ast.ClassDef) or node.decorator_list:  # a dataclass, perhaps
        raise _Unclear
    for part in node.body:
        if isinstance(part, ast.FunctionDef) and part.name == "__init__":
            return Signature([*_parameters(part.args)][1:])
    for base in node.bases:
        if not isinstance(base, ast.Name):
            raise _Unclear
        if base.id != "ABC":
            return _signature(*_find(f"{module}.{base.id}"))
    return Signature()


def _parameters(args: ast.arguments) -> Iterator[Parameter]:
    positional = [*args.posonlyargs, *args.args]
    missing: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
    for arg, default in zip(positional, [*missing, *args.defaults], strict=True):
        only = arg in args.posonlyargs
        kind = Parameter.POSITIONAL_ONLY if only else Parameter.POSITIONAL_OR_KEYWORD
        yield Parameter(arg.arg, kind, default=_default(default))
    if args.vararg:
        yield Parameter(args.vararg.arg, Parameter.VAR_POSITIONAL)
    for arg, default in zip(args.kwonlyargs, args.kw_defaults, strict=True):
        yield Parameter(arg.arg, Parameter.KEYWORD_ONLY, default=_default(default))
    if args.kwarg:
        yield Parameter(args.kwarg.arg, Parameter.VAR_KEYWORD)


def _default(node: ast.expr | None) -> Any:
    if node is None:
        return Parameter.empty
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)
