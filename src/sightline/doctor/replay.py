"""`sightline doctor replay`: run a bad batch of a training again, and say where it goes wrong first."""

from __future__ import annotations

import contextlib
import copy
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.artifacts.checkpoint import load_checkpoint
from sightline.backends.attention_kernel import forced
from sightline.backends.device import select_device
from sightline.config.settings import Settings
from sightline.errors import CheckpointError, MissingInputError, SettingValueError
from sightline.losses.items import named_items
from sightline.models.origin import read_origin
from sightline.models.rebuild import rebuild
from sightline.train.dumps import FOLDER, KIND
from sightline.train.precision import Precision, choose
from sightline.train.skip_layers import keep_in_float32

SHOWN = 5  # names in a line


@dataclass
class Pass:
    """One forward and backward pass.

    Attributes:
        precision: number format.
        loss: sum of the terms, per image.
        items: the terms by name.
        first_layer: the first module whose output is not finite, with its class; None if all are.
        bad_items: terms that are not finite.
        bad_gradients: parameters whose gradient is not finite, in the order of the backward pass.
        grad_norm: of all gradients.
    """

    precision: str
    loss: float = float("nan")
    items: dict[str, float] = field(default_factory=dict)
    first_layer: str | None = None
    bad_items: list[str] = field(default_factory=list)
    bad_gradients: list[str] = field(default_factory=list)
    grad_norm: float = float("nan")

    @property
    def finite(self) -> bool:
        return not (self.first_layer or self.bad_items or self.bad_gradients)


@dataclass
class Replay:
    """What a dump shows.

    Attributes:
        dump: the file's content.
        bad_images: files whose pixels are not finite.
        bad_labels: names of label tensors that are not finite.
        bad_weights: tensors of the network that are not finite.
        passes: in the number format of the run, if this device has it, and where that is not fp32 and not finite, in
            fp32.
    """

    dump: dict[str, Any]
    bad_images: list[str]
    bad_labels: list[str]
    bad_weights: list[str]
    passes: list[Pass]

    @property
    def cause(self) -> str:
        """One sentence."""
        first = self.passes[0]
        if self.bad_weights:
            return (
                f"The weights were bad before this batch came: {_some(self.bad_weights)}. What spoiled them happened "
                "in an earlier step (or in the memory); this batch is not to blame."
            )
        if self.bad_images:
            return f"The images are not finite when they reach the network: {_some(self.bad_images)}."
        if self.bad_labels:
            return f"The labels are not finite: {_some(self.bad_labels)}."
        if not first.finite and len(self.passes) > 1 and self.passes[1].finite:
            return (
                f"It is the number format: in {first.precision} {_where(first)}, in fp32 all is finite. "
                "Set amp=False, or fp16_skip_layers with the layer that is named."
            )
        if not first.finite:
            return f"It happens again, also without the rest of the run: {_where(first)}."
        if first.precision != self.dump["precision"]:
            return (
                f"In {first.precision} all is finite, but the run computed in {self.dump['precision']}, which is not "
                "possible here, and whose numbers end at 65,504. Repeat this with device=0 on a GPU; if the batch is "
                "not finite there, use amp=bf16 or amp=False, or fp16_skip_layers with the layer that it names."
            )
        if "median" in self.dump.get("reason", ""):
            return (
                f"All is finite; the loss of {first.loss:.4g} per image is what was taken for a spike. Look at the "
                "labels of these files."
            )
        return (
            "All is finite when the batch is run again, so neither the images, the labels nor the weights are the "
            "cause. A callback or loss of your own, or the hardware, may have done it."
        )

    def lines(self) -> list[str]:
        """The report for a terminal."""
        dump = self.dump
        files = dump.get("files", [])
        out = [
            f"epoch {dump['epoch'] + 1}, batch {dump['batch_index'] + 1}, rank {dump['rank']}: {dump['reason']}",
            f"in the run: loss {dump['loss_per_image']:.4g} per image, gradient norm {dump['grad_norm']}, "
            f"{dump['precision']}",
            f"{len(files)} images: {_some([Path(name).name for name in files])}",
        ]
        for each in self.passes:
            terms = ", ".join(f"{name} {value:.4g}" for name, value in each.items.items())
            out.append(
                f"again in {each.precision}: loss {each.loss:.4g} per image ({terms}), "
                f"gradient norm {each.grad_norm:.4g}"
            )
            if each.first_layer:
                out.append(f"  first output that is not finite: {each.first_layer}")
            if each.bad_items:
                out.append(f"  loss terms that are not finite: {', '.join(each.bad_items)}")
            if each.bad_gradients:
                out.append(f"  gradients that are not finite, from the loss backwards: {_some(each.bad_gradients)}")
        if dump.get("objects"):
            out.append(f"note: the run used {', '.join(dump['objects'])}, which a file cannot hold; ours is used here")
        return [*out, self.cause]


def replay(dump: str | os.PathLike[str] | Mapping[str, Any], *, device: str | None = "cpu") -> Replay:
    """Run the batch of a dump again.

    Args:
        dump: a file of a run's `dumps/`, or its content.
        device: where; the number format of the run is used where this device has it.

    Raises:
        CheckpointError: the file is something else, or its network cannot be made again.
        MissingInputError: there is no such file.
    """
    file = "the dump" if isinstance(dump, Mapping) else os.fspath(dump)
    if not isinstance(dump, Mapping) and not os.path.lexists(file):
        raise MissingInputError(f"{file} does not exist. Dumps of bad batches are in dumps/ of a run folder.")
    if os.path.isdir(file):
        raise MissingInputError(f"{file} is a folder. {_dumps_in(Path(file))}")
    content = dict(dump) if isinstance(dump, Mapping) else load_checkpoint(file)
    if content.get("kind") != KIND:
        raise CheckpointError(
            f"{file} is no dump of a bad batch. Those are in dumps/ of a run folder, one file for each (dump_batches)."
        )
    place = select_device(device)
    network = _network(content, file).to(place)
    batch = _batch(content["batch"], place)
    files = content.get("files", [])
    finite = batch["img"].flatten(1).isfinite().all(1).tolist()
    found = Replay(
        dump=content,
        bad_images=[files[i] if i < len(files) else f"image {i}" for i, good in enumerate(finite) if not good],
        bad_labels=[name for name, value in batch.items() if name != "img" and not _is_finite(value)],
        bad_weights=[name for name, value in content["model"].items() if not _is_finite(value)],
        passes=[],
    )
    formats = [content["precision"], "fp32"] if content["precision"] != "fp32" else ["fp32"]
    for number, name in enumerate(formats):
        try:
            precision = choose(name if name != "fp32" else False, place)
        except SettingValueError:  # this device does not compute in it
            continue
        if number and found.passes and found.passes[0].finite:
            break
        found.passes.append(_run(copy.deepcopy(network), batch, content, precision))
    return found


def _dumps_in(folder: Path) -> str:
    """What to give in the place of a folder."""
    files = sorted([*folder.glob(f"{FOLDER}/*.pt"), *folder.glob("*.pt")] if folder.name != "weights" else [])
    if not files:
        return "Give one of the files in dumps/ of a run folder; a run without bad batches has none."
    return f"Give one of its files: {_some([str(file) for file in files])}."


def _network(content: Mapping[str, Any], file: str) -> Any:
    network: Any = rebuild(
        content["yaml"],
        nc=content["nc"],
        names=content["names"],
        state=content["model"],
        origin=read_origin(content.get("network")),
        file=file,
    )
    network.args = Settings.from_dict(content["args"], skip_unknown=True)
    keep_in_float32(network, network.args.fp16_skip_layers or [])
    for name, weights in content.get("weights_of_classes", {}).items():
        setattr(network, name, weights)
    for parameter in network.parameters():
        parameter.requires_grad_(True)
    network.train()
    held = set(content.get("held", ()))
    for name, module in network.named_modules():
        if name in held:
            module.eval()
    return network


def _batch(saved: Mapping[str, Any], device: torch.device) -> dict[str, Any]:
    batch = {name: value.to(device) if isinstance(value, Tensor) else value for name, value in saved.items()}
    if batch["img"].dtype == torch.uint8:
        batch["img"] = batch["img"].float() / 255
    return batch


def _run(network: Any, batch: dict[str, Any], content: Mapping[str, Any], precision: Precision) -> Pass:
    result = Pass(precision=precision.name)
    with _watching(network, result), precision.autocast(), forced(network.args.attention_kernel):
        if content.get("criterion") and hasattr(network, "make_criterion"):
            network.criterion = network.make_criterion()
            network.criterion.load_state_dict(content["criterion"])
        loss, items = network(dict(batch))
    total = loss.sum()
    result.loss = float(total.detach()) / len(batch["img"])
    named = named_items(items, tuple(getattr(network.criterion, "loss_names", ())))
    result.items = {key: float(value) for key, value in named.items()}
    result.bad_items = [key for key, value in named.items() if not _is_finite(value)]
    total.backward()
    gradients = [(key, p.grad) for key, p in network.named_parameters() if p.grad is not None]
    result.bad_gradients = [key for key, gradient in reversed(gradients) if not _is_finite(gradient)]
    norms = torch.stack([gradient.float().norm() for _, gradient in gradients])
    result.grad_norm = float(norms.norm())
    return result


@contextlib.contextmanager
def _watching(network: nn.Module, result: Pass) -> Iterator[None]:
    """Note the first module without children, in the order of the forward pass, whose output is not finite."""

    def look(name: str) -> Any:
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if result.first_layer is None and isinstance(output, Tensor) and not _is_finite(output):
                result.first_layer = f"{name} ({type(module).__name__})"

        return hook

    hooks = [
        module.register_forward_hook(look(name))
        for name, module in network.named_modules()
        if not any(True for _ in module.children())
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _is_finite(value: Any) -> bool:
    return not isinstance(value, Tensor) or not value.is_floating_point() or bool(value.isfinite().all())


def _where(one: Pass) -> str:
    if one.first_layer:
        return f"the output of {one.first_layer} is the first that is not finite"
    if one.bad_items:
        return f"the loss term {one.bad_items[0]} is not finite although the network's outputs are"
    return f"the loss is finite, but the gradient of {one.bad_gradients[0]} is not"


def _some(names: list[str]) -> str:
    return ", ".join(names[:SHOWN]) + (f", … ({len(names)} in all)" if len(names) > SHOWN else "")
