"""From the class path that a file names to the class, without letting a file choose what code runs (decision 0113)."""

from __future__ import annotations

import ast
import importlib
import os
import sys
import sysconfig
from functools import reduce
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from torch import nn

from sightline.log import LOGGER
from sightline.models.origin import Origin, class_path

INSTALLED = ("site-packages", "dist-packages")


class Found(NamedTuple):
    """The class, or why there is none."""

    kind: type[nn.Module] | None
    reason: str = ""


def find_class(origin: Origin, base: type[nn.Module] = nn.Module, *, known: tuple[type, ...] = ()) -> Found:
    """The class that a checkpoint names, if this program has it.

    It is taken from what the program has already: `known`, the running script, or a module that was imported. Else its
    module is imported if Python finds it in a folder of `sys.path` outside of the Python installation, and if its
    source, which is read and not run for this, defines a class of that name. Nothing else is ever imported.

    Args:
        origin: what the file says.
        base: what the class must derive from.
        known: classes at hand, such as that of the network that was just trained.
    """
    for kind in known:
        if class_path(kind) == origin.class_path and issubclass(kind, base):
            return Found(kind)
    if "<locals>" in origin.name:
        return Found(None, "it was defined inside a function, where no other program can find it")
    module = sys.modules.get(origin.module)
    if origin.module == "__main__" and (module is None or _look_up(module, origin.name) is None):
        # The script that trained may have been imported by this one. It is not imported here: it would train again.
        module = sys.modules.get(Path(origin.script).stem) if origin.script.endswith(".py") else None
        if module is None:
            return Found(None, f"the script that runs now defines no {origin.name}")
    if module is None:
        refusal = _why_not_import(origin)
        if refusal:
            return Found(None, refusal)
        try:
            module = importlib.import_module(origin.module)
        except Exception as problem:
            return Found(None, f"{origin.module} cannot be imported ({type(problem).__name__}: {problem!s:.200})")
        LOGGER.info(f"{origin.name} comes from {getattr(module, '__file__', origin.module)}")
    found = _look_up(module, origin.name)
    if found is None:
        return Found(None, f"{module.__name__} has no class {origin.name}")
    if not issubclass(found, base) or not _is_network(found):
        return Found(None, f"{origin.name} of {module.__name__} is no {base.__name__} that can be trained")
    return Found(found)


def _look_up(module: ModuleType, name: str) -> type | None:
    found = reduce(lambda holder, part: getattr(holder, part, None), name.split("."), module)
    return found if isinstance(found, type) else None


def _is_network(kind: type) -> bool:
    """Layers of torch and of other packages have no loss, so a file cannot have one of them made."""
    return issubclass(kind, nn.Module) and callable(getattr(kind, "loss", None))


def _why_not_import(origin: Origin) -> str:
    """The reason not to import the class's module; "" for none. Nothing is imported to find that out."""
    spec = _spec_of(origin.module)
    if spec is None or not (spec.origin or "").endswith(".py"):
        return f"there is no {origin.module.replace('.', '/')}.py in the folders that Python imports from"
    path = Path(str(spec.origin)).resolve()
    if _is_installed(path):
        return f"{origin.module} is an installed package, of which a file does not choose what runs; import it first"
    try:
        tree = ast.parse(path.read_bytes())
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return f"{path} cannot be read"
    body = tree.body
    for part in origin.name.split("."):
        kind = next((node for node in body if isinstance(node, ast.ClassDef) and node.name == part), None)
        if kind is None:
            return f"{path} defines no class {origin.name}"
        body = kind.body
    return ""


def _spec_of(module: str) -> ModuleSpec | None:
    """Where Python would find a module, package by package, without importing the packages around it."""
    path: list[str] | None = [entry or os.getcwd() for entry in sys.path]
    spec, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        if spec.origin is not None and _is_installed(Path(spec.origin).resolve()):
            return spec
        path = list(spec.submodule_search_locations or [])
    return spec


def _is_installed(path: Path) -> bool:
    """Whether a file belongs to the Python installation rather than to the user's own project."""
    library = [Path(sysconfig.get_path(name)).resolve() for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    return any(part in INSTALLED for part in path.parts) or any(path.is_relative_to(folder) for folder in library)
