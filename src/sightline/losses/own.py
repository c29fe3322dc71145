"""A loss that a user hands in: `train(loss=…)`.

How the kinds are told apart, in this order:

* a class (or a `functools.partial` of one) derived from `v8DetectionLoss`, or anything with a parameter `tal_topk`: the
  loss of one branch. A model with two branches gets `E2ELoss(model, loss_fn=it)`, others `it(model)`.
* any other class, and a callable that must be given one argument: it makes the criterion, `criterion = it(model)`. That
  is called as `criterion(preds, batch)`, preds being what the model returned: (decoded, raw) in validation.
* a callable that must be given two arguments is the loss itself: `it(preds, batch)`. Its preds are always raw.

What a loss returns: a tensor to be added up, or that and a dict of numbers to be shown.
"""

from __future__ import annotations

import functools
import inspect
import numbers
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from sightline.errors import SettingTypeError, TrainingError
from sightline.losses.detect import v8DetectionLoss
from sightline.losses.end_to_end import E2EDetectLoss, E2ELoss

BRANCH, CRITERION, FUNCTION = "branch", "criterion", "function"

ALLOWED = (
    "Give a class derived from v8DetectionLoss or E2ELoss, a function of (preds, batch), or a class or function that "
    "makes a criterion from the model."
)

_BY_POSITION = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)


class OwnLoss:
    """What was given as `loss=`, and which kind it is.

    Args:
        given: see the head of this file.

    Raises:
        SettingTypeError: it is none of these.
    """

    def __init__(self, given: Callable[..., Any]) -> None:
        self.given = given
        self.name = name_of(given)
        self.kind = _kind(given, self.name)

    def make(self, model: Any) -> Any:
        """The criterion of a model.

        Raises:
            SettingTypeError: what it makes cannot be called, or it cannot be made for a model with two branches.
        """
        if self.kind == FUNCTION:
            return FunctionLoss(self.given)
        if self.kind == BRANCH:
            if not getattr(model, "end2end", False):
                return self.given(model)
            if not _takes_branch_arguments(self.given):
                raise SettingTypeError(
                    f"loss={self.name} takes no tal_topk and tal_topk2, but the model has two branches, which are told "
                    f"apart by them. Write: def __init__(self, model, tal_topk=10, tal_topk2=None)."
                )
            return E2ELoss(model, loss_fn=self.given)
        made = self.given(model)
        if not callable(made):
            raise SettingTypeError(
                f"loss={self.name} made a {type(made).__name__} from the model, which cannot be called with (preds, "
                f"batch). {ALLOWED}"
            )
        return made

    def describe(self) -> str:
        """One line for the summary at the start of a run."""
        if self.kind == FUNCTION:
            return f"{self.name}(preds, batch) is the loss"
        if self.kind == BRANCH:
            return f"{self.name} is the loss of each branch"
        return f"{self.name}(model) makes the loss"

    def __deepcopy__(self, memo: Any) -> OwnLoss:
        return self  # the average of the weights is a copy of the model; a user's object need not be copyable


class FunctionLoss:
    """A function of (raw predictions, batch) as a criterion."""

    def __init__(self, function: Callable[[Any, Mapping[str, Any]], Any]) -> None:
        self.function = function

    def __call__(self, preds: Any, batch: Mapping[str, Any]) -> Any:
        return self.function(preds[1] if isinstance(preds, tuple) else preds, batch)


def usable(result: Any, criterion: Any, *, learning: bool = False) -> tuple[Tensor, Any]:
    """What a criterion returned, as the pair that training works with.

    Args:
        result: a tensor that will be added up; or that and what is to be shown: a dict of numbers or one-element
            tensors, or values without names (see `items.named_items`).
        criterion: who returned it, for messages.
        learning: whether a gradient is wanted.

    Returns:
        The tensor, and detached items by name; for a tensor alone {"loss": its sum}. Values without names stay as they
        are: the trainer knows what they may be called.

    Raises:
        TrainingError: it is nothing of that, or nothing could be learnt from it.
    """
    loss, items = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not isinstance(loss, Tensor) or not (items is None or isinstance(items, (Mapping, Tensor, list, tuple))):
        raise TrainingError(
            f"{_who(criterion)} returned {_shown(result)}. A loss returns a tensor, or a pair: the tensor and a "
            "dict of numbers to show."
        )
    if learning and torch.is_grad_enabled() and not loss.requires_grad:
        raise TrainingError(
            f"{_who(criterion)} returned a tensor without a gradient, so nothing would be learnt. Compute it from "
            "preds with tensor operations, not with .item(), .detach() or numpy."
        )
    if items is None:
        return loss, {"loss": loss.detach().sum()}
    if not isinstance(items, Mapping):
        return loss, items
    return loss, {str(name): _item(name, value, loss, criterion) for name, value in items.items()}


def name_of(given: Any) -> str:
    """What a user would call it: the name of a class or function, else that of its type."""
    if isinstance(given, functools.partial):
        return name_of(given.func)
    return str(getattr(given, "__name__", None) or type(given).__name__)


def _kind(given: Any, name: str) -> str:
    if isinstance(given, (v8DetectionLoss, E2ELoss, E2EDetectLoss)):
        raise SettingTypeError(
            f"loss={name}(…) is an object made for another model. Give the class itself, loss={name}: sightline makes "
            "the object for the network that it trains."
        )
    if not callable(given):
        raise SettingTypeError(f"loss={_shown(given)} cannot be called. {ALLOWED}")
    maker = given.func if isinstance(given, functools.partial) else given
    if inspect.isclass(maker):
        if issubclass(maker, v8DetectionLoss) or (not issubclass(maker, E2ELoss) and _takes_branch_arguments(given)):
            return BRANCH
        return CRITERION
    parameters = _parameters(given)
    if "tal_topk" in parameters:
        return BRANCH
    by_position = [parameter for parameter in parameters.values() if parameter.kind in _BY_POSITION]
    needed = [p.name for p in by_position if p.default is inspect.Parameter.empty]
    others = [
        p.name
        for p in parameters.values()
        if p.kind is inspect.Parameter.KEYWORD_ONLY and p.default is inspect.Parameter.empty
    ]
    if len(needed) == 1 and not others:
        return CRITERION
    if len(needed) == 2 and not others and needed[0] != "model":
        return FUNCTION
    raise SettingTypeError(
        f"loss={name} must be given {', '.join(needed + others) or 'nothing'}, so it is not clear how to call it. A "
        f"loss takes two arguments, (preds, batch); what makes one takes one, (model). {ALLOWED}"
    )


def _parameters(given: Any) -> Mapping[str, inspect.Parameter]:
    """Of a call of it; nothing where Python cannot say."""
    called = given.forward if isinstance(given, nn.Module) else given
    try:
        return inspect.signature(called).parameters
    except (TypeError, ValueError):
        return {}


def _takes_branch_arguments(given: Any) -> bool:
    parameters = _parameters(given)
    any_keyword = any(parameter.kind is inspect.Parameter.VAR_KEYWORD for parameter in parameters.values())
    maker = given.func if isinstance(given, functools.partial) else given
    ours = inspect.isclass(maker) and issubclass(maker, v8DetectionLoss)
    return {"tal_topk", "tal_topk2"} <= set(parameters) or (ours and any_keyword)


def _item(name: Any, value: Any, loss: Tensor, criterion: Any) -> Tensor:
    if isinstance(value, Tensor) and value.numel() == 1:
        return value.detach().reshape(())
    if isinstance(value, numbers.Real):
        return torch.full((), float(value), device=loss.device)
    raise TrainingError(
        f"{_who(criterion)} returned the item {name!r} = {_shown(value)}. An item is one number, or a tensor of one "
        "element."
    )


def _who(criterion: Any) -> str:
    return f"loss {name_of(criterion.function if isinstance(criterion, FunctionLoss) else criterion)}"


def _shown(value: Any) -> str:
    if isinstance(value, Tensor):
        return f"a tensor of {tuple(value.shape)}"
    if isinstance(value, tuple):
        return f"a tuple of {', '.join(type(part).__name__ for part in value) or 'nothing'}"
    return f"{value!r:.80} ({type(value).__name__})"
