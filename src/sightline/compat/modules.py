"""Modules named `ultralytics…`, made from the table when they are imported. Each name is loaded when it is used."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from sightline.compat import table
from sightline.errors import NoEquivalentError
from sightline.log import LOGGER


class StandIn(ModuleType):
    """One module of the old names."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # Python and its tools look for many of these
            raise AttributeError(f"module {self.__name__!r} has no attribute {name!r}")
        new = table.TABLE[self.__name__].get(name)
        if new is not None:
            value = table.load(new)
            self.__dict__[name] = value
            return value
        full = f"{self.__name__}.{name}"
        if full in table.TABLE:
            return importlib.import_module(full)
        raise AttributeError(table.why_missing(full))

    def __setattr__(self, name: str, value: Any) -> None:
        if not (name.startswith("__") or isinstance(value, StandIn)):
            LOGGER.warning(
                f"{self.__name__}.{name} was assigned, but sightline does not look there, so nothing else changes. "
                f"{table.DOCUMENT} says where things are replaced."
            )
        super().__setattr__(name, value)

    def __dir__(self) -> list[str]:
        inner = [full.rpartition(".")[2] for full in table.TABLE if full.rpartition(".")[0] == self.__name__]
        return sorted({*super().__dir__(), *table.TABLE[self.__name__], *inner})

    def __reduce__(self) -> tuple[Any, ...]:  # functions that travel to other processes take their modules along
        return importlib.import_module, (self.__name__,)


class Finder(MetaPathFinder, Loader):
    """Finds the modules of the table, and refuses all others below their root with advice.

    Every module is a package without files, so that `from module import name` asks here for a name that is missing:
    only then does the advice reach the reader.
    """

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != table.OLD and not fullname.startswith(f"{table.OLD}."):
            return None
        if fullname in table.TABLE:
            return ModuleSpec(fullname, self, is_package=True)
        # No `name=`: Python would swallow an error of exactly that name and say less.
        raise NoEquivalentError(table.why_missing(fullname))

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return StandIn(spec.name, f"What scripts import from {spec.name}, of sightline. See {table.DOCUMENT}.")

    def exec_module(self, module: ModuleType) -> None:
        module.__dict__["__all__"] = [name for name in table.TABLE[module.__name__] if not name.startswith("_")]
        for name, new in table.TABLE[module.__name__].items():
            if name.startswith("__"):
                module.__dict__[name] = table.load(new)
