"""The kinds of values that settings take: what is accepted, and what it is turned into.

Strings are not read as numbers here ("5" is not 5): a script that passes one has usually lost a conversion, and the
command line and YAML files make numbers before they come here. A whole number written as a float (5.0) is accepted.
"""

from __future__ import annotations

import ast
import numbers
import os
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal

import yaml
from pydantic import BeforeValidator
from pydantic_core import PydanticCustomError

from sightline.config.limits import Limits

# The two `type`s that `settings.py` turns into SettingTypeError and SettingValueError.
WRONG_TYPE = "setting_type"
WRONG_VALUE = "setting_value"

LARGEST_IMAGE_SIZE = 32768  # pixels; beyond it a slip of the finger is likelier than a picture


def wrong_type(detail: str = "") -> PydanticCustomError:
    return PydanticCustomError(WRONG_TYPE, "{detail}", {"detail": detail})


def wrong_value(detail: str = "") -> PydanticCustomError:
    return PydanticCustomError(WRONG_VALUE, "{detail}", {"detail": detail})


def is_number(value: Any) -> bool:
    """Numbers of Python and NumPy; True and False are not numbers here."""
    return isinstance(value, numbers.Real) and not isinstance(value, bool)


def is_whole(value: Any) -> bool:
    return is_number(value) and (isinstance(value, numbers.Integral) or float(value).is_integer())


def as_switch(value: Any) -> bool:
    if not isinstance(value, bool):
        raise wrong_type()
    return value


def as_whole(value: Any) -> int:
    if not is_whole(value):
        raise wrong_type()
    return int(value)


# Numbers that PyYAML, which follows YAML 1.1, hands on as text: `lr0: 1e-3`.
_EXPONENT_WITHOUT_POINT = re.compile(r"[-+]?[0-9]+[eE][-+]?[0-9]+|[-+]?[0-9]+\.?[0-9]*[eE][0-9]+")


def as_number(value: Any) -> float:
    if isinstance(value, str) and _EXPONENT_WITHOUT_POINT.fullmatch(value):
        value = float(value)
    if not is_number(value):
        raise wrong_type()
    if not abs(float(value)) < float("inf"):  # nan or infinite
        raise wrong_value("the value is not finite")
    return float(value)


FIND = "find"  # what lr0 may be in the place of a number


def as_learning_rate(value: Any) -> float | str:
    """From 0 to 1, or "find"."""
    if isinstance(value, str) and value.strip().lower() == FIND:
        return FIND
    number = as_number(value)
    if not 0 <= number <= 1:
        raise wrong_value()
    return number


def as_text(value: Any) -> str:
    """Text, a path, or (for `name=5`) a number, as text."""
    if is_number(value):
        return str(value)
    if not isinstance(value, (str, os.PathLike)):
        raise wrong_type()
    text = os.fspath(value)
    if not isinstance(text, str):
        raise wrong_type()
    if not text.strip():
        raise wrong_value("the text is empty")
    return text


def as_file(value: Any) -> str:
    """Text or a path, as text; numbers are refused."""
    if is_number(value):
        raise wrong_type()
    return as_text(value)


def choice(*options: str, fold: bool = False, later: Sequence[str] = ()) -> Callable[[Any], str]:
    """One of `options`; with `fold` in any mix of capitals, given back as written in `options`.

    What stands in `later` is refused as something that is not here yet.
    """

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise wrong_type()
        for option in options:
            if value == option or (fold and value.lower() == option.lower()):
                return option
        raise wrong_value("it exists in Ultralytics, not in sightline yet" if value in later else "")

    return check


def whole_choice(*options: int) -> Callable[[Any], int]:
    def check(value: Any) -> int:
        number = as_whole(value)
        if number not in options:
            raise wrong_value()
        return number

    return check


def as_batch(value: Any) -> int | float:
    """A count, -1, or a fraction of the memory."""
    number = as_number(value)
    if 0 < number < 1:
        return number
    if not number.is_integer() or (number < 1 and number != -1):
        raise wrong_value()
    return int(number)


def as_image_size(value: Any) -> int | list[int]:
    """One side, or height and width, in pixels. Text such as "640" or "[320, 640]" is read, as people's scripts do."""
    if isinstance(value, str):
        try:
            value = ast.literal_eval(value.strip())
        except (ValueError, SyntaxError):
            raise wrong_type() from None
    if isinstance(value, (list, tuple)):
        if len(value) not in (1, 2) or not all(is_whole(side) for side in value):
            raise wrong_type()
        sides = [_image_side(side) for side in value]
        return sides if len(sides) == 2 else sides[0]
    if not is_whole(value):
        raise wrong_type()
    return _image_side(value)


def _image_side(value: Any) -> int:
    side = int(value)
    if not 1 <= side <= LARGEST_IMAGE_SIZE:
        raise wrong_value()
    return side


def as_fraction(value: Any) -> int | float | list[int | float]:
    """A ratio in (0, 1], a count above 1, or a list of those for train, val (and test)."""
    if isinstance(value, (list, tuple)):
        if len(value) not in (2, 3):
            raise wrong_type()
        return [_one_fraction(part) for part in value]
    return _one_fraction(value)


def _one_fraction(value: Any) -> int | float:
    number = as_number(value)
    if number > 1 and number.is_integer():
        return int(number)
    if not 0 < number <= 1:
        raise wrong_value()
    return number


def as_scale(value: Any) -> float | list[float]:
    """A gain in [0, 1] (zoom by 1 ± gain), or the lowest and the highest zoom."""
    if isinstance(value, (list, tuple)):
        if len(value) != 2 or not all(is_number(end) for end in value):
            raise wrong_type()
        low, high = (as_number(end) for end in value)
        if not 0 < low <= high <= 100:
            raise wrong_value()
        return [low, high]
    gain = as_number(value)
    if not 0 <= gain <= 1:
        raise wrong_value()
    return gain


def as_cache(value: Any) -> bool | str:
    """False, "ram" or "disk". True is written as "ram", so that what ran is in args.yaml."""
    if isinstance(value, bool):
        return "ram" if value else False
    return choice("ram", "disk", fold=True)(value)


def as_precision(value: Any) -> bool | str:
    if isinstance(value, bool):
        return value
    return choice("auto", "fp16", "bf16", "fp32", fold=True)(value)


def as_automatic(value: Any) -> bool | str:
    """True, False or "auto"."""
    return value if isinstance(value, bool) else choice("auto", fold=True)(value)


def as_switch_or_file(value: Any) -> bool | str:
    return value if isinstance(value, bool) else as_file(value)


def as_classes(value: Any) -> list[int]:
    """Class numbers, sorted; one number is a list of one."""
    items = list(value) if isinstance(value, (list, tuple, set, frozenset)) else [value]
    if not all(is_whole(item) for item in items):
        raise wrong_type()
    if not items:
        raise wrong_value("the list is empty")
    if any(item < 0 for item in items):
        raise wrong_value()
    return sorted({int(item) for item in items})


def as_freeze(value: Any) -> int | str | list[int | str]:
    """How many layers from the front, a name, or a list of layer numbers and names."""
    if isinstance(value, str):
        text = as_text(value).strip()
        if text.startswith("[") and text.endswith("]"):  # the shell has taken the quotes of [0,"23.cv2"]
            items = [item.strip() for item in text[1:-1].split(",")]
            return as_freeze([int(item) if item.isdigit() else item for item in items])
        if text.isdigit():  # neither meaning is likelier
            raise wrong_type(f"write {text} for the first {text} layers, [{text}] for layer {text}")
        return text
    if isinstance(value, (list, tuple)):
        if not all(is_whole(item) or isinstance(item, str) for item in value):
            raise wrong_type()
        if any((not item.strip()) if isinstance(item, str) else item < 0 for item in value):
            raise wrong_value()
        return [item if isinstance(item, str) else int(item) for item in value]
    number = as_whole(value)
    if number < 0:
        raise wrong_value()
    return number


def as_unfreeze(value: Any) -> int | dict[int, str | list[int | str]]:
    """An epoch, or {epoch: what thaws then}; text such as "{5: model.8, 10: all}" is read (the shell takes quotes)."""
    if isinstance(value, str):
        value = _mapping_from_text(re.sub(r"([{,]\s*\d+)\s*:\s*", r"\1: ", value))
    if not isinstance(value, dict):
        return _thaw_epoch(value)
    steps: dict[int, str | list[int | str]] = {}
    for key, names in value.items():
        epoch = _thaw_epoch(int(key) if isinstance(key, str) and key.strip().isdigit() else key)
        if epoch in steps:
            raise wrong_value(f"epoch {epoch} is there twice")
        thawed = as_freeze(names)
        if isinstance(thawed, int):
            raise wrong_type(f"write [{thawed}] for layer {thawed}")
        steps[epoch] = thawed
    if not steps:
        raise wrong_value("it is empty")
    return dict(sorted(steps.items()))


def _thaw_epoch(value: Any) -> int:
    epoch = as_whole(value)
    if epoch < 1:
        raise wrong_value("epochs are counted from 0, and nothing is frozen before the first")
    return epoch


def as_factors(value: Any) -> dict[str, float]:
    """{regular expression: factor}; text such as "{model.0: 0.1}" is read (the shell takes quotes)."""
    if isinstance(value, str):
        value = _mapping_from_text(re.sub(r":\s*([-+.\deE]+)\s*(?=[,}])", r": \1", value))
    if not isinstance(value, dict) or not all(isinstance(pattern, str) for pattern in value):
        raise wrong_type()
    if not value:
        raise wrong_value("it is empty")
    factors = {pattern: as_number(factor) for pattern, factor in value.items()}
    zero = [pattern for pattern, factor in factors.items() if factor == 0]
    if zero:
        raise wrong_value(f"a factor of 0 freezes; say that with freeze='regex:{zero[0]}'")
    if min(factors.values()) < 0 or any(not pattern for pattern in factors):
        raise wrong_value()
    return factors


def as_diagnosis_limits(value: Any) -> dict[str, float]:
    """{name of a limit: number}; text such as "{grad_norm: 5000}" is read."""
    if isinstance(value, str):
        value = _mapping_from_text(re.sub(r":(?=\S)", ": ", value))
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise wrong_type()
    numbers_ = {name: as_number(number) for name, number in value.items()}
    if any(number < 0 for number in numbers_.values()):
        raise wrong_value("a limit is not negative")
    try:
        Limits.named(numbers_)
    except KeyError as error:
        raise wrong_value(str(error.args[0])) from None
    return numbers_


def _mapping_from_text(text: str) -> Any:
    for read in (ast.literal_eval, yaml.safe_load):
        try:
            value = read(text.strip())
        except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError, yaml.YAMLError):
            continue
        if isinstance(value, dict):
            return value
    raise wrong_type("quote the names in it where they have brackets or commas" if text.startswith("{") else "")


_DEVICE = re.compile(r"auto|cpu|mps|mps:0|cuda|(cuda:)?\d+(,(cuda:)?\d+)*|-1", re.IGNORECASE)


def as_device(value: Any) -> int | str | list[int]:
    """Checked for its spelling only; whether the device is there is asked when a run starts."""
    if type(value).__module__ == "torch":  # a torch.device, told apart without importing torch
        value = str(value)
    if isinstance(value, (list, tuple)):
        if not all(is_whole(item) for item in value):
            raise wrong_type()
        if not value or min(value) < 0 or len(set(value)) != len(value):
            raise wrong_value()
        return [int(item) for item in value]
    if isinstance(value, str):
        text = re.sub(r"[\s\[\]()]", "", value).lower()
        if not _DEVICE.fullmatch(text):
            raise wrong_value()
        return text
    number = as_whole(value)
    if number < -1:
        raise wrong_value()
    return number


def as_data(value: Any) -> str | dict[str, Any]:
    """The name or path of a data description, or the description itself."""
    if isinstance(value, dict):
        return dict(value)
    if isinstance(value, (list, tuple)):
        raise wrong_type("a list of data sets (one training each) exists in Ultralytics, not in sightline yet")
    return as_file(value)


FILE_NAME = re.compile(r"\w[\w.-]{0,59}")  # what every file system takes as part of a name


def as_fitness(value: Any) -> Any:
    """An expression over metrics or a function of them, or a list or dict (by name) of those.

    Here only the form is checked: which metrics there are, a run knows. Text in brackets is a list or dict, as it comes
    from the command line: `[mAP50, recall]`, `{a: mAP50, b: min(precision, recall)}`.
    """
    if isinstance(value, str) and value.strip()[:1] == "{":
        pairs = [item.partition(":") for item in split_list(value)]
        if not all(colon for _, colon, _ in pairs):
            raise wrong_value("each goal in {…} needs a name: {name: expression, …}")
        value = {name.strip(): text.strip() for name, _, text in pairs}
    elif isinstance(value, str) and value.strip()[:1] == "[":
        value = split_list(value)
    if isinstance(value, dict):
        for name in value:
            if not isinstance(name, str) or not FILE_NAME.fullmatch(name):
                raise wrong_value(
                    f"the name {name!r} becomes part of a file name, best_<name>.pt: letters, digits and . _ - only"
                )
        return {name: _one_goal(goal) for name, goal in _filled(value).items()}
    if isinstance(value, (list, tuple)):
        return [_one_goal(goal) for goal in _filled(value)]
    return _one_goal(value)


def _one_goal(value: Any) -> Any:
    if callable(value):
        return value
    if not isinstance(value, str):
        raise wrong_type()
    return as_text(value).strip()


def as_names(value: Any) -> list[str]:
    """Names; one text is a list of one, or of several with commas between them."""
    if isinstance(value, str):
        value = split_list(value)
    if not isinstance(value, (list, tuple)) or not all(isinstance(item, str) for item in value):
        raise wrong_type()
    return [as_text(item).strip() for item in _filled(value)]


TRACKERS = ("tensorboard", "mlflow", "wandb")
ALWAYS_WRITTEN = ("csv", "json", "jsonl")  # names that people try; there is nothing to switch on


def as_loggers(value: Any) -> list[str]:
    """Names of trackers, each once; one text is a list of one, or of several with commas. `[]` is a meaning: nobody."""
    if isinstance(value, str):
        value = split_list(value)
    if not isinstance(value, (list, tuple)):
        raise wrong_type()
    for name in value:
        if isinstance(name, str) and name.lower() in ALWAYS_WRITTEN:
            raise wrong_value("results.csv and events.jsonl are written always, so leave them out of the list")
    return list(dict.fromkeys(choice(*TRACKERS, fold=True)(name) for name in value))


def split_list(text: str) -> list[str]:
    """`[a, min(b, c)]` → `a` and `min(b, c)`; the outer brackets may be missing."""
    text = text.strip()
    if text[:1] + text[-1:] in ("[]", "{}"):
        text = text[1:-1]
    parts, depth = [""], 0
    for character in text:
        depth += (character in "([{") - (character in ")]}")
        if character == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += character
    return [part.strip() for part in parts if part.strip()]


def _filled(values: Any) -> Any:
    if not values:
        raise wrong_value("it is empty")
    return values


def as_transforms(value: Any) -> list[Any]:
    if isinstance(value, (str, bytes)) or not isinstance(value, Sequence):
        raise wrong_type()
    return list(value)


def as_class_weights(value: Any) -> str | list[float] | dict[str | int, float]:
    """ "auto", a weight for each class in order, or weights by class name (or number) with 1 for the others.

    `{WBC:11.2,Platelets:11.5}`, as it comes from the command line without quotes, is read as a dict.
    """
    if isinstance(value, str):
        return _named_weights(value) if value.strip().startswith("{") else choice("auto", fold=True)(value)
    if hasattr(value, "tolist"):  # an array or a tensor
        value = value.tolist()
    if isinstance(value, Mapping):
        if not all(isinstance(name, str) or is_whole(name) for name in value):
            raise wrong_type()
        pairs = {name if isinstance(name, str) else int(name): as_number(weight) for name, weight in value.items()}
        if not pairs or any(weight <= 0 for weight in pairs.values()):
            raise wrong_value("there is no weight in it" if not pairs else "a weight is not above 0")
        return pairs
    if isinstance(value, (list, tuple)):
        weights = [as_number(weight) for weight in value]
        if not weights or any(weight <= 0 for weight in weights):
            raise wrong_value("there is no weight in it" if not weights else "a weight is not above 0")
        return weights
    raise wrong_type()


def _named_weights(text: str) -> dict[str | int, float]:
    pairs: dict[Any, Any] = {}
    for item in text.strip().strip("{}").split(","):
        name, colon, weight = item.rpartition(":")
        try:
            pairs[name.strip().strip("'\"")] = float(weight)
        except ValueError:
            raise wrong_value(f"'{item.strip()}' is not name:weight") from None
        if not colon or not name.strip():
            raise wrong_value(f"'{item.strip()}' is not name:weight")
    return as_class_weights(pairs)  # type: ignore[return-value]


def as_focal_gamma(value: Any) -> float:
    """0, or from 1 on: between them the gradient has no bound where a soft target is met (losses/terms/focal.py)."""
    gamma = as_number(value)
    if gamma != 0 and not 1 <= gamma <= 10:
        raise wrong_value("between 0 and 1 the gradient grows beyond all bounds" if 0 < gamma < 1 else "")
    return gamma


def as_loss(value: Any) -> Any:
    """Which kind of loss it is, is asked when it meets the model (losses/own.py)."""
    if not callable(value):
        raise wrong_type()
    return value


# `Annotated` names for the fields of groups/. `None` is added there where a setting may be left open.
Switch = Annotated[bool, BeforeValidator(as_switch)]
Whole = Annotated[int, BeforeValidator(as_whole)]
Number = Annotated[float, BeforeValidator(as_number)]
LearningRate = Annotated[float | Literal["find"], BeforeValidator(as_learning_rate)]
Text = Annotated[str, BeforeValidator(as_text)]
File = Annotated[str, BeforeValidator(as_file)]
Batch = Annotated[int | float, BeforeValidator(as_batch)]
ImageSize = Annotated[int | list[int], BeforeValidator(as_image_size)]
Fraction = Annotated[int | float | list[int | float], BeforeValidator(as_fraction)]
Scale = Annotated[float | list[float], BeforeValidator(as_scale)]
Cache = Annotated[bool | str, BeforeValidator(as_cache)]
PrecisionChoice = Annotated[bool | str, BeforeValidator(as_precision)]
Automatic = Annotated[bool | str, BeforeValidator(as_automatic)]
SwitchOrFile = Annotated[bool | str, BeforeValidator(as_switch_or_file)]
Classes = Annotated[list[int], BeforeValidator(as_classes)]
Freeze = Annotated[int | str | list[int | str], BeforeValidator(as_freeze)]
Unfreeze = Annotated[int | dict[int, str | list[int | str]], BeforeValidator(as_unfreeze)]
Factors = Annotated[dict[str, float], BeforeValidator(as_factors)]
DiagnosisLimits = Annotated[dict[str, float], BeforeValidator(as_diagnosis_limits)]
Device = Annotated[int | str | list[int], BeforeValidator(as_device)]
ClassWeights = Annotated[str | list[float] | dict[str | int, float], BeforeValidator(as_class_weights)]
FocalGamma = Annotated[float, BeforeValidator(as_focal_gamma)]
Loss = Annotated[Any, BeforeValidator(as_loss)]
Data = Annotated[str | dict[str, Any], BeforeValidator(as_data)]
Fitness = Annotated[str | list[Any] | dict[str, Any] | Callable[..., Any], BeforeValidator(as_fitness)]
Names = Annotated[list[str], BeforeValidator(as_names)]
Loggers = Annotated[list[str], BeforeValidator(as_loggers)]
Transforms = Annotated[list[Any], BeforeValidator(as_transforms)]
