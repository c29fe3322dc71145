"""Where a network comes from: its class, what it was made with, and its layers, as plain values for a checkpoint.

Nothing here finds or makes anything; that is `own_class.py` and `rebuild.py`.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

MAX_TEXT = 300  # letters of a class path in a file; a longer one is no path
OURS = ("sightline.", "torch.nn.")


class Recorded(nn.Module):
    """Remembers what a network was made with, in `init_arguments`, so that a checkpoint can say it.

    Derive a network of your own from it if its constructor has arguments that are not attributes of the same name.
    """

    def __new__(cls, *arguments: Any, **named: Any) -> Any:
        made = super().__new__(cls)
        try:
            bound = inspect.signature(cls.__init__).bind(made, *arguments, **named)
        except TypeError:  # copying and unpickling make the object without arguments, and put the attributes in after
            return made
        given: dict[str, Any] = {}
        for name, value in list(bound.arguments.items())[1:]:
            kind = bound.signature.parameters[name].kind
            if kind is inspect.Parameter.VAR_KEYWORD:
                given.update(value)
            elif kind is inspect.Parameter.VAR_POSITIONAL:
                return made  # cannot be given by name
            else:
                given[name] = value
        object.__setattr__(made, "init_arguments", given)
        return made


@dataclass(frozen=True)
class Origin:
    """What a checkpoint says of its network's class. All of it may be invented: it is read from a file."""

    class_path: str  # "net:MyNet", "__main__:MyNet"
    script: str = ""  # file name of the module the class was defined in, "train.py"
    arguments: dict[str, Any] | None = None  # what the class was made with; None if that could not be recorded
    missing: str = ""  # why not
    modules: dict[str, str] = field(default_factory=dict)  # name → class of each module, see `module_classes`

    @property
    def module(self) -> str:
        return self.class_path.partition(":")[0]

    @property
    def name(self) -> str:
        return self.class_path.partition(":")[2]

    @property
    def is_own(self) -> bool:
        """Whether the class is a user's, none of this library's."""
        return self.module.partition(".")[0] != "sightline"

    @property
    def place(self) -> str:
        """For messages: "of net.py", "of the script train.py"."""
        if self.module == "__main__":
            return f"of the script {self.script}" if self.script else "of a notebook or console"
        return f"of {self.module}"

    @property
    def call(self) -> str:
        """How it was made, as code: "MyNet(width=16)"."""
        if self.arguments is None:
            return f"{self.name}(…)"
        return f"{self.name}({', '.join(f'{name}={value!r:.40}' for name, value in self.arguments.items())})"

    def to_plain(self) -> dict[str, Any]:
        return {
            "class": self.class_path,
            "script": self.script,
            "arguments": self.arguments,
            "missing": self.missing,
            "modules": dict(self.modules),
        }


def origin_of(network: nn.Module) -> Origin:
    """What a checkpoint should say of this network's class."""
    kind = type(network)
    arguments, missing = arguments_of(network)
    module = sys.modules.get(kind.__module__)
    script = Path(getattr(module, "__file__", None) or "").name
    return Origin(class_path(kind), script, arguments, missing, module_classes(network))


def read_origin(value: Any) -> Origin | None:
    """What a file says under `network`; None where that is not what `Origin.to_plain` writes."""
    if not isinstance(value, Mapping):
        return None
    path, script, missing = value.get("class"), value.get("script"), value.get("missing")
    arguments, modules = value.get("arguments"), value.get("modules")
    if not (isinstance(path, str) and len(path) <= MAX_TEXT and path.count(":") == 1):
        return None
    names = path.replace("<locals>", "locals").replace(":", ".").split(".")
    if not all(name.isidentifier() for name in names):
        return None
    plain = isinstance(arguments, dict) and all(isinstance(name, str) and name.isidentifier() for name in arguments)
    return Origin(
        path,
        script if isinstance(script, str) and len(script) <= MAX_TEXT and script.isprintable() else "",
        arguments if plain else None,
        missing[:MAX_TEXT] if isinstance(missing, str) else "",
        {str(name): str(kind)[:MAX_TEXT] for name, kind in modules.items()} if isinstance(modules, dict) else {},
    )


def class_path(kind: type) -> str:
    """`module:Class`. A script that was started again by its own worker processes is still `__main__`."""
    module = "__main__" if kind.__module__ == "__mp_main__" else kind.__module__
    return f"{module}:{kind.__qualname__}"


def module_classes(network: nn.Module) -> dict[str, str]:
    """Name → class of every module inside: the bare name for those of torch and of this library, else the path.

    All kinds of BatchNorm count as one: synchronised ones are exchanged for ordinary ones without harm.
    """
    return {name: _class_name(module) for name, module in network.named_modules() if name}


def _class_name(module: nn.Module) -> str:
    kind = type(module)
    if isinstance(module, nn.modules.batchnorm._BatchNorm):
        return "BatchNorm"
    return kind.__name__ if f"{kind.__module__}.".startswith(OURS) else class_path(kind)


def is_plain(value: Any) -> bool:
    """Whether a checkpoint can hold it and hand back the same."""
    if isinstance(value, Mapping):
        return type(value) is dict and all(isinstance(key, str | int) and is_plain(v) for key, v in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(item) for item in value)
    return value is None or type(value) in (bool, int, float, str)


def arguments_of(network: nn.Module) -> tuple[dict[str, Any] | None, str]:
    """What the constructor was given by name, and "" ; or None and the reason why that cannot be recorded.

    From `init_arguments` (see `Recorded`), else from attributes that bear the names of the constructor's arguments.
    """
    given = getattr(network, "init_arguments", None)
    if isinstance(given, Mapping):
        odd = next((name for name, value in given.items() if not is_plain(value)), None)
        if odd is None:
            return dict(given), ""
        return None, f"its argument {odd} is a {type(given[odd]).__name__}, no number, text, list or dict of them"
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(network)).parameters.items():
        if parameter.kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD):
            continue
        if name not in vars(network) or not is_plain(vars(network)[name]):
            return None, f"the network has no plain attribute {name}, as its argument is called"
        found[name] = vars(network)[name]
    return found, ""
