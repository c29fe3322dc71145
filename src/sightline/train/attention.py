"""The setting `attention_kernel` in a run: checked, set and shown at its start. `environment.py` puts it back."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from sightline.backends import attention_kernel
from sightline.train.ema import unwrap

if TYPE_CHECKING:
    from sightline.train.trainer import BaseTrainer


def put_in_force(trainer: BaseTrainer) -> None:
    """Check the kernel against the network on its device, let it compute, and say so.

    Raises:
        SettingValueError: the one that is forced cannot.
    """
    kernel, network, device = trainer.args.attention_kernel, unwrap(trainer.model), trainer.device
    dtype = trainer.precision.dtype
    attention_kernel.check_training(kernel, network, device, dtype)
    attention_kernel.switch(kernel)
    layers = sum(attention_kernel.head_widths(network).values())
    if kernel != attention_kernel.AUTO:
        where = f"{layers} attention layers" if layers else "whatever calls scaled_dot_product_attention"
        only_half = attention_kernel.refusal_of(network, kernel, device, torch.float32, False) is not None
        rest = "; in fp32, as in the last validation, math" if only_half else ""
        trainer.in_force["attention_kernel"] = f"{kernel} computes {where}{rest}"
    elif layers:
        found = ", ".join(attention_kernel.usable(network, device, dtype, training=True))
        trainer.in_force["attention_kernel"] = (
            f"auto: torch chooses for {layers} attention layers; usable here: {found}"
        )
