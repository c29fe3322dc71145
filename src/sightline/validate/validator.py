"""The validation loop, and the methods that a task or a user fills in or replaces."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sightline.artifacts.run_dir import make_run_dir, remove_empty
from sightline.artifacts.showcase import Showcase
from sightline.backends import ranks
from sightline.backends.device import select_device
from sightline.backends.load import load_network
from sightline.backends.memory import is_out_of_memory, release
from sightline.backends.pulse import PULSE
from sightline.backends.timing import StageTimer
from sightline.backends.torch_model import TorchModel, channels_of, evaluating, private_copy
from sightline.callbacks.base import call_all
from sightline.config.load import make_settings
from sightline.config.settings import Settings
from sightline.data.collate import split_batch
from sightline.errors import DataError, ModelError, UsageError
from sightline.log import LOGGER
from sightline.losses.items import named_items
from sightline.metrics.detect import STAGES
from sightline.models.contract import check_task, largest_stride, named_classes

# The lowest score that counts when nobody says otherwise: recall is measured down to the last unsure box.
VALIDATION_CONF = 0.001


class BaseValidator:
    """Measures a network on a data set.

    Two ways to call it: `validator(trainer)` during training judges the EMA weights on the trainer's loader, with the
    branch that will be deployed, and adds the losses; `validator(model=…)` judges a finished model, of which it makes a
    private, folded copy, on `dataloader` or on `args.data`.

    Args:
        dataloader: batches to validate on; None builds them from `args.data` and `args.split`.
        save_dir: where pictures and files go; None makes a run folder when the validator is called.
        args: settings, as an object or a dict.
        _callbacks: event → functions, each called with the validator.

    Attributes:
        training: whether this is a validation during training.
        network: what runs the images, while it runs.
        data: the data set as a dict (path, train, val, test, names, nc, …); empty for a loader of unknown origin.
        split: the part of it that is validated.
        names: class index → name, of the data set.
        seen: images so far.
        batch_i: the number of the batch.
        loss: mean loss items over the images so far (training only), on the device.
        metrics: the results, as an object.
        speed: milliseconds an image for preprocess, inference, loss and postprocess.
        plots: whether this validation draws.
        jdict: rows of predictions.json.
        log_also: full names of metrics to return beside those that `args.log_metrics` asks for; names that no
            validation knows (of losses) do not matter.
        images_at_once: how many images go through the network at once; None: a batch. Falls where memory runs out.
        showcase: takes the best and worst images of a validation that is not one of an epoch; None where nobody asks.
    """

    task = ""

    def __init__(
        self,
        dataloader: Any = None,
        save_dir: str | Path | None = None,
        args: Settings | Mapping[str, Any] | None = None,
        _callbacks: dict[str, list[Callable[[Any], Any]] | None] | None = None,
    ) -> None:
        self.args: Settings = args if isinstance(args, Settings) else make_settings("val", dict(args or {}))
        self.dataloader = dataloader
        self.save_dir: Path | None = None if save_dir is None else Path(save_dir)
        # The table itself, not a copy: a trainer that adds a callback later means this validator, too.
        self.callbacks: dict[str, list[Callable[[Any], Any]] | None] = {} if _callbacks is None else _callbacks
        self.training = False
        self.device = torch.device("cpu")
        self.network: TorchModel | None = None
        self.data: dict[str, Any] = {}
        self.split = "val"
        self.names: dict[int, str] = {}
        self.nc = 0
        self.conf = VALIDATION_CONF
        self.max_det = self.args.max_det
        self.plots = False
        self.seen = 0
        self.batch_i = 0
        self.loss: dict[str, Tensor] = {}
        self.loss_names: tuple[str, ...] = ()  # for a loss that gives its items without names
        self.speed: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self.metrics: Any = None
        self.jdict: list[dict[str, Any]] = []
        self.log_also: tuple[str, ...] = ()
        self.images_at_once: int | None = None
        self.showcase: Showcase | None = None
        self.timer = StageTimer(self.device, STAGES)

    def __call__(self, trainer: Any = None, model: nn.Module | str | Path | None = None) -> dict[str, float]:
        """Validate.

        Args:
            trainer: the running trainer, during training.
            model: a network or weights file, otherwise.

        Returns:
            The metrics by name, full precision, and `fitness`; during training also the losses, `val/box_loss` and so
            on, averaged over the images.

        Raises:
            DataError: there is nothing to validate on, or the labels do not fit the model.
            ModelError: the classes of the model and the data do not fit.
        """
        if trainer is None and model is None:
            raise UsageError("A validator needs a trainer or a model: validator(trainer) or validator(model=network).")
        session = self._during_training(trainer) if trainer is not None else self._standalone(model)
        with session as network:
            self.network, self.device = network, network.device
            stats = self._validate(network, trainer)
        self.network = None
        if self.training:
            mean = {name: value / max(self.seen, 1) for name, value in self.loss.items()}
            stats = {**stats, **trainer.label_loss_items(mean, prefix="val")}
        return stats

    # ------------------------------------------------------------------ the loop

    def _validate(self, network: TorchModel, trainer: Any) -> dict[str, float]:
        autocast = trainer.precision.autocast if self.training else contextlib.nullcontext
        no_graph = torch.no_grad if self.training else torch.inference_mode
        self.seen, self.loss, self.jdict = 0, {}, []
        self.conf = VALIDATION_CONF if self.args.conf is None else self.args.conf
        self.timer = StageTimer(self.device, STAGES)
        self.init_metrics(network)
        self._choose_metrics()
        self.run_callbacks("on_val_start")
        for number, batch in enumerate(self.dataloader):
            self.batch_i = number
            self.run_callbacks("on_val_batch_start")
            for piece, predictions, items in self._in_pieces(network, batch, autocast, no_graph):
                self._add_loss(items, len(piece["img"]))
                self.seen += len(piece["img"])
                with no_graph():
                    self.update_metrics(predictions, piece)
                if self.plots and self.batch_i < 3:
                    self._try(self.plot_val_samples, piece, self.batch_i)
                    self._try(self.plot_predictions, piece, predictions, self.batch_i)
            self.run_callbacks("on_val_batch_end")
        PULSE.beat("end of the validation", patient=True)  # numbers and curves of a large data set take a while
        self.speed = self.timer.milliseconds_per(self.seen)
        if self._is_one_of_several:
            self.gather_stats()
        if self.seen == 0:
            raise DataError(f"There is no image to validate on in split={self.split} of data={self.args.data}.")
        stats = self.get_stats()
        self.finalize_metrics()
        self.print_results()
        if self._speaks:
            self.run_callbacks("on_val_end")
        return stats

    def _choose_metrics(self) -> None:
        """Tell the metrics object what to return beside its means."""
        keys = self.logged_keys(self.names)
        if not keys:
            return
        if not hasattr(self.metrics, "log"):
            raise UsageError(
                f"log_metrics: {type(self.metrics).__name__}, which this validator uses, has no attribute `log`, so "
                "it cannot say more than its means. Derive it from DetMetrics, or leave log_metrics out."
            )
        self.metrics.log = tuple(keys)

    @property
    def _speaks(self) -> bool:
        """Whether this process writes and tells what all ranks found."""
        return ranks.is_main() or not self._is_one_of_several

    @property
    def _is_one_of_several(self) -> bool:
        """Whether every rank of a run has a part of these images (a user's own loader may give all to each)."""
        sampler = getattr(self.dataloader, "sampler", None)
        parts = getattr(sampler, "world_size", getattr(sampler, "num_replicas", 1))
        return parts > 1 and ranks.count() > 1

    def _in_pieces(
        self, network: TorchModel, batch: dict[str, Any], autocast: Any, no_graph: Any
    ) -> Iterator[tuple[dict[str, Any], Any, Any]]:
        """The batch as the device has it, what is predicted and the loss items: at once, or in pieces that fit."""
        waiting = [batch] if self.images_at_once is None else split_batch(batch, self.images_at_once)
        while waiting:
            piece = waiting.pop(0)
            measured = problem = None
            try:
                with no_graph():
                    measured = self._measure(network, dict(piece), autocast)
            except Exception as error:
                if not is_out_of_memory(error):
                    raise
                problem = error
            if measured is not None:
                yield measured
                continue
            assert problem is not None
            said, images = release(problem), len(piece["img"])
            if images == 1:
                raise ModelError(
                    f"Validation: there is not enough memory for a single image ({said}). Lower imgsz, now "
                    f"{self.args.imgsz}, or take a smaller model."
                )
            self.images_at_once = (images + 1) // 2
            LOGGER.warning(
                f"validation: out of memory ({said}). From here on at most {self.images_at_once} images are validated "
                "at once; the metrics are the same."
            )
            waiting = [part for rest in (piece, *waiting) for part in split_batch(rest, self.images_at_once)]

    def _measure(self, network: TorchModel, batch: dict[str, Any], autocast: Any) -> tuple[dict[str, Any], Any, Any]:
        items = None
        with self.timer.stage("preprocess"):
            batch = self.preprocess(batch)
        with autocast():
            with self.timer.stage("inference"):
                output = network(batch["img"])
            with self.timer.stage("loss"):
                if self.training:
                    _, items = network.network.loss(batch, output)
        # Suppression and metrics work on the host, so here we wait for the device.
        with self.timer.stage("postprocess", waits=True):
            return batch, self.postprocess(output), items

    def _add_loss(self, items: Any, images: int) -> None:
        """Losses are means over a batch; weighted with its size they add up to a mean over all images."""
        if items is None:
            return
        for name, value in named_items(items, self.loss_names).items():
            self.loss[name] = self.loss.get(name, 0) + value * images

    # ------------------------------------------------------------------ the two ways in

    @contextlib.contextmanager
    def _during_training(self, trainer: Any) -> Iterator[TorchModel]:
        """The EMA weights on the trainer's loader, in the precision of training."""
        self.training = True
        self.dataloader = self.dataloader if self.dataloader is not None else trainer.test_loader
        self.save_dir = self.save_dir or Path(trainer.save_dir)
        self.callbacks = self.callbacks or trainer.callbacks
        # Pictures of an epoch that is not the last would be overwritten by the next.
        last = trainer.epoch + 1 >= trainer.epochs or trainer.stop or trainer.stopper.possible_stop
        self.plots = bool(self.args.plots and last and self._speaks)
        network = trainer.ema.ema if trainer.ema is not None else trainer.model
        self.data, self.names = trainer.data, dict(trainer.data["names"])
        self.loss_names = tuple(getattr(trainer, "loss_names", ()))
        self.fit_to_data(self.names, self.names)
        with evaluating(
            network,
            nms=self.args.nms,
            max_det=self.max_det,
            agnostic_nms=self._agnostic,
            channels_last=self.args.channels_last,
        ) as ready:
            yield ready

    @contextlib.contextmanager
    def _standalone(self, model: nn.Module | str | Path) -> Iterator[TorchModel]:
        """A folded copy of the model on the loader given, or on one of its own."""
        self.training = False
        self.plots = self.args.plots and self._speaks
        device = select_device(self.args.device)
        network: Any = load_network(model)
        check_task(network, self.task)
        built = None
        if self.dataloader is None:
            self.split = self.args.split
            self.dataloader = built = self.build_loader(largest_stride(network), device)
        made: list[Path] = []
        try:
            self.names = named_classes(self.data.get("names") or network.names)
            self._check_channels(network)
            self.fit_to_data(named_classes(network.names), self.names)
            if self.save_dir is None:
                self.save_dir = make_run_dir(self.args, self.task, "val", made=made)
            yield private_copy(
                network,
                device=device,
                nms=self.args.nms,
                max_det=self.max_det,
                agnostic_nms=self._agnostic,
                channels_last=self.args.channels_last,
                attention_kernel=self.args.attention_kernel,
            )
        except BaseException:
            if made:
                self.save_dir = None
                remove_empty(made)
            raise
        finally:
            if built is not None:
                built.close()
                self.dataloader = None

    def _check_channels(self, network: Any) -> None:
        wanted = channels_of(network)
        found = self.data.get("channels", wanted)
        if found != wanted:
            raise ModelError(
                f"The model takes images of {wanted} channels, but data={self.args.data} says channels={found}. "
                "Correct `channels` there, or train a model on this data."
            )

    @property
    def _agnostic(self) -> bool:
        return bool(self.args.single_cls or self.args.agnostic_nms)

    # ------------------------------------------------------------------ what a task fills in

    def build_loader(self, stride: int, device: torch.device) -> Any:
        """A loader for `args.split` of `args.data`; fills `data`."""
        raise NotImplementedError

    def fit_to_data(self, model_names: dict[int, str], data_names: dict[int, str]) -> None:
        """Check that model and data fit, before anything is written."""

    def init_metrics(self, model: TorchModel) -> None:
        """Start with empty metrics."""
        raise NotImplementedError

    def loggable_keys(self, names: Mapping[int, str]) -> list[str]:
        """Full names of all metrics that a validation with these classes can return."""
        return []

    def logged_keys(self, names: Mapping[int, str]) -> list[str]:
        """Full names of those that are wanted beside the means. Raises SettingValueError for one that there is not."""
        return []

    def preprocess(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device; images become floats in [0, 1]."""
        raise NotImplementedError

    def postprocess(self, preds: Any) -> Any:
        """From the network's output to predictions of each image, on the host."""
        raise NotImplementedError

    def update_metrics(self, preds: Any, batch: dict[str, Any]) -> None:
        """Compare the predictions of a batch with its labels."""
        raise NotImplementedError

    def gather_stats(self) -> None:
        """On several ranks, after the last batch of this one: exchange what was collected, so that each has all."""
        parts = ranks.gather((self.seen, self.speed, {name: value.cpu() for name, value in self.loss.items()}))
        self.seen = sum(seen for seen, _, _ in parts)
        self.speed = {
            stage: sum(seen * speed[stage] for seen, speed, _ in parts) / max(self.seen, 1) for stage in self.speed
        }
        self.loss = {}
        for _, _, losses in parts:  # a rank without images has none
            for name, value in losses.items():
                self.loss[name] = self.loss.get(name, 0) + value

    def get_stats(self) -> dict[str, float]:
        """Compute the metrics; returns them by name."""
        return self.metrics.compute()

    def finalize_metrics(self) -> None:
        """Complete the metrics object, write files and draw, after all images."""

    def get_desc(self) -> str:
        """The header of the printed table."""
        return ""

    def print_results(self) -> None:
        """Print the table."""

    def plot_val_samples(self, batch: dict[str, Any], ni: int) -> None:
        """A picture of the labels of a batch."""

    def plot_predictions(self, batch: dict[str, Any], preds: Any, ni: int) -> None:
        """A picture of the predictions of a batch."""

    # ------------------------------------------------------------------ callbacks

    def add_callback(self, event: str, callback: Callable[[Any], Any]) -> None:
        """Call `callback(validator)` at `event`."""
        self.callbacks[event] = [*(self.callbacks.get(event) or []), callback]

    def run_callbacks(self, event: str) -> None:
        """Call everything that listens to `event`."""
        PULSE.beat(f"validation batch {self.batch_i + 1}, callbacks at {event}")
        call_all(self.callbacks.get(event), event, self)
        PULSE.beat(f"validation batch {self.batch_i + 1}, after {event}")

    def _try(self, draw: Callable[..., None], *arguments: Any) -> None:
        """A picture that cannot be drawn does not end a validation."""
        try:
            draw(*arguments)
        except Exception as error:
            LOGGER.warning(f"{getattr(draw, '__name__', 'a picture')} failed ({error}); going on without it")
