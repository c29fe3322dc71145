"""The training loop, and the methods that a task or a user fills in or replaces.

`_run_epochs` is the whole loop on one screen. Everything around it is a method with one job; what is not part of
training itself (console, trackers, …) is a callback.
"""

from __future__ import annotations

import gc
import itertools
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil
import torch
from torch import Tensor, nn

from sightline.artifacts import plots
from sightline.artifacts.checkpoint import save_checkpoint
from sightline.artifacts.tables import ResultsTable
from sightline.backends import ranks
from sightline.backends.device import select_device
from sightline.backends.load import load_network
from sightline.callbacks import loggers
from sightline.callbacks.console import Console
from sightline.callbacks.diagnose import Diagnose
from sightline.callbacks.report import WriteReport
from sightline.config.load import settings_of_run, to_yaml
from sightline.config.settings import Settings
from sightline.data.own_loader import begin_epoch, check_loader
from sightline.files import atomic_write
from sightline.log import LOGGER
from sightline.losses import normalise
from sightline.models.training_settings import settings_in_file
from sightline.train import (
    attention,
    backbone,
    between_batches,
    clip,
    clock,
    distributed,
    dry_run,
    freeze_plan,
    goals,
    house_keeping,
    launch,
    loss_settings,
    lr_groups,
    memory,
    norms,
    range_test,
    range_test_files,
    recipe,
    resume,
    run_checkpoint,
    run_folder,
    saving,
    schedule_settings,
    skip_layers,
    stages,
    time_budget,
    watchdog,
)
from sightline.train.ema import ModelEMA, build_ema, unwrap
from sightline.train.environment import run_environment, seed_everything
from sightline.train.live_settings import LiveSettings
from sightline.train.optim import build_optimizer
from sightline.train.precision import Precision, choose
from sightline.train.returned import checked_results, returned
from sightline.train.run_state import RunState
from sightline.train.schedule import (
    Schedule,
    images_per_step,
    lr_scale_of,
    scaled_weight_decay,
    warmup_batches,
)


class BaseTrainer(RunState):
    """Trains one network on one data set.

    Every method without underscore may be overridden, every attribute read, and these replaced by your own while it
    runs: `optimizer`, `scheduler`, `scaler`, `ema`, `validator`, loaders, `stopper`. Assigning the name of a setting
    (`trainer.warmup_momentum = 0.8`) is the same as assigning it on `args`: it is checked, recorded and in force from
    the next batch on. `stop_training = True` ends the run after the epoch. docs/customising.md is the guide.

    Args:
        cfg: settings to start from: a Settings object, a YAML file, a dict or None for the defaults.
        overrides: settings that come on top, as a plain dict.
        _callbacks: event → list of functions, each called with the trainer; or a list, see `callbacks.base.entries`.

    Raises:
        SettingsError: a setting is wrong.
        DataError: the data set cannot be used.
        MissingFileError: it is not there.
    """

    task = ""  # the row of `tasks.py`; each task's trainer names its own

    def __init__(
        self,
        cfg: Settings | Mapping[str, Any] | str | Path | None = None,
        overrides: Mapping[str, Any] | None = None,
        _callbacks: Any = None,
    ) -> None:
        self.args: Settings = settings_of_run(cfg, overrides or {}, self.task, settings_in_file)
        self.checkpoint: dict[str, Any] | None = self.check_resume()
        if self.checkpoint is None:
            self.fill_defaults()
        self.world_size = distributed.wanted(self.args)  # processes that train together
        self.ddp = self.world_size > 1
        self.rank = 0  # which of them this is
        self.device: torch.device = select_device(self.args.device)
        self.precision: Precision = choose(self.args.amp, self.device)
        self.scaler = self.precision.scaler
        super().__init__(_callbacks, first=[Console(), Diagnose(), *loggers.build(self.args), WriteReport()])
        self.data = self.get_dataset()
        self.live = LiveSettings(self)
        self._own_names = frozenset(self.__dict__)  # what is assigned under another name of a setting is the setting

    # ------------------------------------------------------------------ the loop

    def train(self) -> None:
        """Run from the first epoch (or the one a resume starts at) to the last, and validate the best weights.

        Where several processes are asked for, they are started here, and this one only gets their results.
        """
        range_test.settle(self)
        if self.args.dry_run and self.rehearsal is None:
            self.dry_run_report = dry_run.rehearse(self)  # comes back here
            return
        if distributed.must_launch(self.args):
            launch.train(self)
            return
        self._take_device()
        with (
            run_environment(seed=self.args.seed, deterministic=self.args.deterministic),
            distributed.process_group(self.device),
            self.interrupt,
        ):
            self.rank, self.world_size = ranks.rank(), ranks.count()
            self.saver = saving.Saver()
            guard_dog = watchdog.Watchdog(self.args.watchdog)
            try:
                try:
                    guard_dog.start()
                    if self.rehearsal is not None:
                        self.rehearsal.count_methods(self, "trainer")
                    self._setup_train()
                    self._do_train()
                finally:
                    guard_dog.stop()
                    self.saver.close(wait=not self.interrupt.at_once)
                    self.run_callbacks("teardown")
                    self._close_loaders()
            except BaseException:  # an interrupt, too
                run_folder.discard(self)
                raise

    def _do_train(self) -> None:
        """The epochs, then the best weights as they will be used."""
        self.train_time_start = clock.now()
        self.run_callbacks("on_train_start")
        resume.settle(self, in_epoch=False)
        self.recovery.begin(self)
        with self.interrupt.deferred():
            self._run_epochs()
        self.saver.finish(self)
        self.final_eval()
        if self.rank == 0:
            if self.args.plots:
                self._try(self.plot_metrics)
            self.run_callbacks("on_train_end")

    def _run_epochs(self) -> None:
        """Epoch → batch → forward → backward → optimizer step → EMA → validate → save."""
        for epoch in itertools.count(self.start_epoch):
            self.epoch = epoch
            self._begin_epoch()
            for index, batch in resume.remaining_batches(self):
                self.batch_index = index
                self.run_callbacks("on_train_batch_start")
                self.live.follow()
                self.accumulate = self.schedule.at_iteration(self.iteration, self.epoch)
                batch = self.micro_batches.forward_backward(self, batch)  # in pieces where memory is short
                self.recovery.look(self)
                if self._step_is_due():
                    self._step()
                if self.args.plots and self.rank == 0 and self.iteration in self.plot_idx:
                    self.plot_training_samples(batch, self.iteration)
                self.run_callbacks("on_train_batch_end")
                if between_batches.leaves_epoch(self):
                    break
            self.stop_training = ranks.any_of(self.stop_training)
            self._step_leftover_gradients()
            self._end_epoch()
            self._validate_if_due()
            self._handle_nan_recovery(self.epoch)
            self._record_epoch()
            try:
                self.run_callbacks("on_fit_epoch_end")
            finally:  # an epoch is not lost because a callback fails at its end
                self.saver.end_epoch(self)
            between_batches.after_epoch(self)
            if self.stop or self.stop_training:
                break

    def _begin_epoch(self) -> None:
        self.epoch_time_start = clock.now()
        self.tloss = None
        self.batch_index = 0
        self.freeze_layer_names = self.freeze_plan.enter(unwrap(self.model), self.epoch, self.freeze_layer_names)
        self.run_callbacks("on_train_epoch_start")
        self.live.follow()
        self.schedule.at_epoch_start(self.epoch)
        stages.enter(self, self.epoch)
        self._model_train()
        if self.mixing and self._mosaic_is_closed():
            self._close_dataloader_mosaic()
        resume.settle(self, in_epoch=True)
        augmentation, start = stages.augmentation(self), resume.starts_at(self)
        begin_epoch(self.train_loader, self.epoch, mixing=self.mixing, start=start, augmentation=augmentation)
        self.micro_batches.agree(self)

    def _end_epoch(self) -> None:
        criterion = getattr(unwrap(self.model), "criterion", None)
        self.tloss = ranks.mean(self.tloss or {})
        if hasattr(criterion, "update"):
            criterion.update()
        self.lr = self._learning_rates()
        self.run_callbacks("on_train_epoch_end")
        if hasattr(self.ema, "update_attr"):
            self.ema.update_attr(self.model)
        self.recovery.end_epoch(self)
        if self.ddp:
            distributed.average_statistics(unwrap(self.model), self.ema.ema)

    def _record_epoch(self) -> None:
        """Table, early stopping, checkpoints, and the plan for the epochs that are left."""
        self.guard.report(self.epoch + 1)
        self.micro_batches.after_validation(self)
        house_keeping.after_epoch(self)
        self.epoch_time = clock.now() - self.epoch_time_start
        scores = self.metrics if self.validated else dict.fromkeys(self.metrics)
        self.save_metrics({**self.label_loss_items(self.tloss), **scores, **self.goals.columns, **self.lr})
        self.stop |= bool(self.stopper(self.epoch + 1, self.fitness)) or self.epoch + 1 >= self.epochs
        self.stop |= self.stop_training
        time_budget.is_up(self)  # validation counts, too: no epoch is begun that has no time
        time_budget.replan(self)
        self.saver.wait(self)  # best.pt is compared with
        self.new_best = ranks.broadcast(self._is_new_best())
        if self.args.save or self.stop:
            self.rank_states = ranks.gather(run_checkpoint.rank_state(self))
            if self.rank == 0 and self.save_model() is not False:
                self.run_callbacks("on_model_save")
        self.stop = ranks.any_of(self.stop)

    # ------------------------------------------------------------------ one step

    def preprocess_batch(self, batch: dict[str, Any]) -> dict[str, Any]:
        """Move a batch to the device; images become floats in [0, 1]. A task may do more."""
        return batch

    def _forward(self, batch: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Sets `loss`. Returns the batch as the network sees it, and what the loss has to show."""
        with self.precision.autocast(), normalise.over_ranks():
            batch = returned(self.preprocess_batch(batch), self.preprocess_batch)
            loss, items = self.model(batch)
            self.loss = loss.sum() * self.world_size  # gradients are averaged over the ranks
        return batch, items

    def _backward(self) -> None:
        self.run_callbacks("on_before_backward")
        self.scaler.scale(self.loss).backward()

    def optimizer_step(self) -> None:
        """Clip the gradients, move the weights, move the EMA. A step that is not finite moves nothing."""
        self.scaler.unscale_(self.optimizer)
        self.grad_norm = clip.clip_gradients(
            self.model.parameters(), max_norm=self.args.clip_grad, max_value=self.args.clip_grad_value
        )
        self.guard.gate(self.optimizer, self.grad_norm, spike_factor=self.args.spike_factor)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad()
        if isinstance(self.ema, ModelEMA):
            self.ema.update(self.model, self.guard.finite)
        else:  # a user's own
            self.ema.update(self.model)

    def _step(self) -> None:
        """`optimizer_step`, whoever wrote it, with the moments around it."""
        self.run_callbacks("on_before_optimizer_step")
        problem = None
        try:
            self.optimizer_step()
        except Exception as error:
            problem = error
        self.recovery.after_step(self, problem)
        self.guard.after_step()
        self.last_opt_step = self.iteration
        self.run_callbacks("on_after_optimizer_step")

    def _step_is_due(self) -> bool:
        return self.iteration - self.last_opt_step >= self.accumulate

    def _step_leftover_gradients(self) -> None:
        """Nothing accumulated is dropped: an epoch that may be the last ends with a step. Others carry it over."""
        if self._may_be_last_epoch() and self.last_opt_step != self.iteration:
            self._step()

    def _may_be_last_epoch(self) -> bool:
        return self.epoch + 1 >= self.epochs or self.stop or self.stop_training or self.stopper.possible_stop

    def _track_loss(self, items: dict[str, Tensor], before: dict[str, Tensor] | None) -> None:
        """Running means on the device: nobody waits for a number that only the end of the epoch needs.

        A batch that is not finite does not count: its step is skipped, and it should not take the number of an epoch
        away.

        Args:
            items: of this batch, or of the pieces of it so far.
            before: the means without this batch; None for the first of an epoch.
        """
        self.loss_items, self.loss_names = items, tuple(items)
        if not before:
            self.tloss = {name: value.detach().clone() for name, value in items.items()}
        else:
            counts = torch.stack([value.detach().float() for value in items.values()]).isfinite().all()
            share = self.batch_index + 1
            self.tloss = {name: _mean(before[name], value.detach(), share, counts) for name, value in items.items()}

    @property
    def iteration(self) -> int:
        """Batches since the start of the run, counting the epochs before a resume; 0 before there is a loader."""
        return self.batch_index + self.epoch * (0 if self.train_loader is None else len(self.train_loader))

    # ------------------------------------------------------------------ set-up

    def _setup_train(self) -> None:
        run_folder.open_for(self)
        if self.rank == 0:
            self.run_callbacks("on_pretrain_routine_start")
        self._setup_network()
        if self.ddp:
            self._setup_ddp()
        self._build_train_pipeline()
        self.validator = returned(self.get_validator(), self.get_validator)
        goals.put_in_force(self)
        self.set_class_weights()
        loss_settings.put_in_force(self)
        stages.put_in_force(self)
        self.ema = build_ema(self.model, self.args)
        if not self.args.ema:
            self.in_force["ema"] = "off: the weights themselves are validated and saved"
        columns = [*self.metric_keys(), *self.logged, *self.label_loss_items(prefix="val")]
        self.metrics = dict.fromkeys(columns, 0.0)
        self.live.begin()
        self.resume_training(self.checkpoint)
        self.lr = self._learning_rates()
        self.write_args()
        if self.rank == 0:
            run_folder.remove_old_results(self)
            range_test_files.write_for(self)
            if self.args.plots:
                self._try(self.plot_training_labels)
        self.run_callbacks("on_pretrain_routine_end")

    def _setup_network(self) -> None:
        """The network as the settings want it, and the batch that fits beside it."""
        with ranks.main_first():  # which may download weights
            self.setup_model()
        self.model = returned(self.model, self.get_model).to(self.device, memory_format=self._memory_format())
        self.set_model_attributes()
        backbone.put_in_force(self)
        attention.put_in_force(self)
        memory.settle(self)
        norms.put_in_force(self)
        skip_layers.put_in_force(self)
        freeze_plan.put_in_force(self)

    def _build_train_pipeline(self) -> None:
        """Loaders, accumulation, optimizer and schedule; `auto` is decided here and fills only what nobody set."""
        batch = self.batch_size // self.world_size
        with ranks.main_first():  # rank 0 fills the caches
            self.train_loader = self.get_dataloader(self.data["train"], batch, rank=self.rank, mode="train")
            self.test_loader = self.get_dataloader(self.data["val"], batch * 2, rank=self.rank, mode="val")
        for loader in (self.train_loader, self.test_loader):
            check_loader(loader)
        self._say_what_is_repeated()
        self._setup_optimization()

    def _setup_optimization(self) -> None:
        """What moves the weights. `tune/` calls it with one setting after another, to see which do anything."""
        # A user's own data set need not know of repeats.
        images = getattr(self.train_loader.dataset, "images_per_epoch", len(self.train_loader.dataset))
        batches = len(self.train_loader)
        self.fill_automatic(batches=batches)
        schedule_settings.put_in_force(self)
        optimizer = self.build_optimizer(
            unwrap(self.model),
            name=self.args.optimizer,
            lr=float(self.args.lr0) * lr_scale_of(self.args),
            momentum=self.args.momentum,
            decay=scaled_weight_decay(self.args.weight_decay, self.batch_size, self.args.nbs, self.args.accumulate),
            iterations=math.ceil(images / images_per_step(self.args)) * self.epochs,
        )
        self.optimizer = returned(optimizer, self.build_optimizer)
        self.in_force |= lr_groups.split_by_settings(self.optimizer, self.model, self.args)
        own_step = type(self).optimizer_step is not BaseTrainer.optimizer_step
        self.in_force |= clip.describe(self.args, stepped_by=type(self).__name__ if own_step else None)
        self.optimizer.zero_grad()
        self._setup_scheduler()

    def _setup_scheduler(self) -> None:
        self.scheduler = Schedule.from_settings(self.optimizer, self.args, batches=len(self.train_loader))
        self.scheduler.warmup_length = self._get_warmup_iterations
        self.scheduler.replan(self.epochs)
        self.lf = self.scheduler.factor
        self.accumulate = self.scheduler.accumulate

    def _learning_rates(self) -> dict[str, float]:
        return {f"lr/pg{i}": group["lr"] for i, group in enumerate(self.optimizer.param_groups)}

    def _setup_ddp(self) -> None:
        """From here on `self.model` averages its gradients; `ema.unwrap` gives the network inside."""
        self.model = distributed.wrap(self.model)
        if self.rank:  # set-up was the same on all ranks; what a network draws in training is not
            seed_everything(self.args.seed + self.rank)

    def write_args(self) -> None:
        """What really runs, with the origin of each value as a comment."""
        if self.rank:
            return
        with atomic_write(self.save_dir / "args.yaml", "w", encoding="utf-8") as file:
            file.write(to_yaml(self.args, save_dir=str(self.save_dir)))

    # ------------------------------------------------------------------ what a task fills in

    def fill_defaults(self) -> None:
        """Settings of a new run that nobody set and that this task wants otherwise: `self.args.fill_auto(name, value)`.

        Called while the trainer is made, when it knows its settings and nothing else.
        """

    def fill_automatic(self, *, batches: int) -> None:
        """Settings that nobody set and that depend on the length of the run, `batches` an epoch, or on the weights."""
        recipe.fill_automatic(self.args, batches=batches, nc=self.data["nc"])

    def get_dataset(self) -> dict[str, Any]:
        """The data set as a dict with at least train, val, names and nc."""
        raise NotImplementedError

    def setup_model(self) -> Any:
        """Make `self.model` a module, from a name, a file or as it is."""
        raise NotImplementedError

    def get_model(self, cfg: Any = None, weights: Any = None, verbose: bool = True) -> nn.Module:
        """A network for this data set, with weights copied in where they fit."""
        raise NotImplementedError

    def build_dataset(self, img_path: Any, mode: str = "train", batch: int | None = None) -> Any:
        raise NotImplementedError

    def get_dataloader(self, dataset_path: Any, batch_size: int = 16, rank: int = 0, mode: str = "train") -> Any:
        raise NotImplementedError

    def get_validator(self) -> Any:
        raise NotImplementedError

    def _say_what_is_repeated(self) -> None:
        """What `repeat_factor` does in this run, or that it does nothing."""

    def set_model_attributes(self) -> None:
        """Give the model what it must know of the data (names, class count) and of the settings."""

    def set_class_weights(self) -> None:
        """Weights of rare classes, from the label counts."""

    def metric_keys(self) -> list[str]:
        """The names of the metrics that validation returns."""
        return []

    def plot_training_samples(self, batch: dict[str, Any], ni: int) -> None:
        """A picture of one batch as the network sees it."""

    def plot_training_labels(self) -> None:
        """A picture of the labels of the training set."""

    def build_optimizer(
        self,
        model: nn.Module,
        name: str = "auto",
        lr: float = 0.001,
        momentum: float = 0.9,
        decay: float = 1e-5,
        iterations: float = 1e5,
    ) -> torch.optim.Optimizer:
        """The optimizer with its parameter groups. `iterations`: the length of the run, for rules."""
        if name == "auto":
            name, lr, momentum = recipe.automatic(iterations=iterations, nc=self.data["nc"])
        return build_optimizer(model, name, lr=lr, momentum=momentum, decay=decay)

    # ------------------------------------------------------------------ validation and results

    def validate(self) -> tuple[dict[str, float], float | None]:
        """Validate the EMA. Returns metrics and fitness; raises `best_fitness` when this is the best so far."""
        metrics = dict(self.validator(self))
        fitness = metrics.pop("fitness", None)
        if self.goals:
            fitness = self.goals.main(metrics)
        elif fitness is None:
            fitness = -float(self.loss)
        if self.best_fitness is None or math.isnan(self.best_fitness) or fitness > self.best_fitness:
            self.best_fitness = fitness
        return metrics, fitness

    def _validate_if_due(self) -> None:
        """Set metrics and fitness. Without validation, or where a user's `validate` returns nothing, there are none."""
        self.goals.begin()
        returned = self.validate() if self._validation_is_due() else None
        # A user's `validate` may know more on one rank than on others; rank 0 decides for all.
        returned, self.best_fitness = ranks.broadcast((returned, self.best_fitness))
        metrics, self.fitness = checked_results(returned)
        self.goals.settle(metrics, self.fitness, self.epoch + 1)
        self.validated = metrics is not None
        if metrics is not None:
            self.metrics = metrics

    def _validation_is_due(self) -> bool:
        return self._may_be_last_epoch() or (self.args.val and (self.epoch + 1) % self.args.val_interval == 0)

    def _handle_nan_recovery(self, epoch: int) -> bool:
        """After the validation of an epoch: say it if the fitness is no number. Returns whether the run was put back.

        That is never needed here: a step that is not finite is refused when it comes (`StepGuard`), so weights and
        averages stay good. A subclass whose own step lets such values in may repair them here.
        """
        if self.fitness is not None and not math.isfinite(self.fitness):
            LOGGER.warning(f"epoch {epoch + 1}: the fitness is {self.fitness}, so it counts as no improvement.")
        return False

    def label_loss_items(self, loss_items: Mapping[str, Any] | None = None, prefix: str = "train") -> Any:
        """Loss names for tables: a list of names without items, else a dict of numbers.

        The column is `dfl_loss` also where the item is `l1_loss` (heads without DFL), because scripts look for it.
        """
        if loss_items is None:
            return [f"{prefix}/{self._column(name)}" for name in self.loss_names]
        return {f"{prefix}/{self._column(name)}": float(value) for name, value in loss_items.items()}

    def _column(self, item: str) -> str:
        return item

    def save_metrics(self, metrics: Mapping[str, float | None]) -> None:
        """Add a row to results.csv and to `history`; None stands for a value that this epoch has not got."""
        seconds = self.time_before + time_budget.elapsed(self)
        for name, value in metrics.items():
            self.history.setdefault(name, []).append(math.nan if value is None else value)
        if self.rank == 0:
            self.saver.add_row(self.csv, {"epoch": self.epoch + 1, "time": seconds, **metrics})

    def progress_string(self) -> str:
        """A line that the console shows when an epoch begins, such as the names of columns; "" for none."""
        return ""

    def _is_new_best(self) -> bool:
        """Against the best.pt on the disk, so that it exists whatever a user's `validate` returns or sets."""
        if self.best_written is None or not self.saver.writer.has(self.best):
            return True
        return self.fitness is not None and self.fitness > self.best_written

    def save_model(self, path: str | Path | None = None) -> bool:
        """Write last.pt (everything), best.pt when this epoch is the best, and epoch{n}.pt; or one file at `path`.

        Only that one file is on the disk when this returns. The others follow from a thread (`saving.Saver`), unless
        somebody looks at them: a trainer that overrides this method, or a callback of `on_model_save`.
        """
        if path is not None:
            path = Path(path)
            save_checkpoint(path if path.is_absolute() else self.save_dir / path, run_checkpoint.light_state(self))
            return True
        if self.new_best:
            self.saver.light(self, self.best)
            self.best_written = -math.inf if self.fitness is None or math.isnan(self.fitness) else self.fitness
        for goal in self.goals.files_due(self.wdir, self.saver.writer.has):
            self.saver.light(self, self.goals.file(self.wdir, goal))
            goal.written = goal.value
        if self.args.save_period > 0 and self.epoch % self.args.save_period == 0:
            self.saver.light(self, self.wdir / f"epoch{self.epoch}.pt")
        self.saver.full(self)
        return True

    def final_eval(self) -> None:
        """Validate best.pt as it will be used, and make its metrics those of the run."""
        if not ranks.broadcast(self.best.exists()):
            return
        LOGGER.info(f"validating {self.best}")
        metrics = dict(self.validator(model=load_network(self.best, like=unwrap(self.ema.ema))))
        metrics.pop("fitness", None)
        self.metrics = {**self.metrics, **metrics}
        epoch, self.epoch = self.epoch, self.epoch + 1
        self.run_callbacks("on_fit_epoch_end")
        self.epoch = epoch

    def plot_metrics(self) -> None:
        """results.png from results.csv."""
        plots.plot_results(self.csv)

    def on_plot(self, name: str | Path, data: Any = None) -> None:
        """Remember a picture, so that callbacks can send it somewhere."""
        self.plots[str(name)] = {"data": data, "timestamp": time.time()}

    # ------------------------------------------------------------------ resume

    @property
    def resume(self) -> bool:
        """Whether this run goes on from a checkpoint."""
        return bool(self.args.resume)

    def check_resume(self, overrides: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        """The checkpoint to go on from, whose settings become those of the run; None for a new run."""
        for name, value in (overrides or {}).items():
            self.args.assign(name, value, origin="code")
        return resume.read(self.args) if self.args.resume else None

    def resume_training(self, ckpt: dict[str, Any] | None) -> None:
        """Put every state of the checkpoint back, and go on with the epoch after it."""
        if ckpt is not None:
            self._load_checkpoint_state(ckpt)
            resume.go_on(self, ckpt)

    def _load_checkpoint_state(self, ckpt: dict[str, Any]) -> None:
        """Weights, averages, optimizer, schedule, scaler, stopping rule and loss as the checkpoint has them."""
        resume.restore(self, ckpt)

    def read_results_csv(self) -> dict[str, list[float]]:
        """The columns of results.csv."""
        return ResultsTable(self.csv).read()

    # ------------------------------------------------------------------ epochs, time, memory

    @property
    def save_period(self) -> int:
        return self.args.save_period

    def _get_warmup_iterations(self, nb: int) -> int:
        """Length of the warm-up in batches, for epochs of `nb` batches."""
        return warmup_batches(self.args, self.epochs, nb)

    def auto_batch(self, max_num_obj: int = 0, dataset_size: int = 0) -> int:
        """The largest batch, of all ranks together, that fits into the part of the memory that `batch` names.

        Args:
            max_num_obj: objects in the most crowded sample; 0 leaves that to a guess.
            dataset_size: images of the training set, which no batch exceeds; 0 if unknown.
        """
        return memory.choose(self, objects=max_num_obj, images=dataset_size)

    def _get_memory(self, fraction: bool = False) -> float:
        """Memory in use on the device, in GB or as a part of all."""
        if self.device.type == "cuda":
            used, total = torch.cuda.memory_reserved(self.device), torch.cuda.mem_get_info(self.device)[1]
        else:
            memory = psutil.virtual_memory()
            used, total = memory.total - memory.available, memory.total
        return used / total if fraction else used / 2**30

    def _clear_memory(self, threshold: float | None = None) -> None:
        """Free what nobody uses; with a threshold only if more than that part of the memory is in use."""
        if threshold is None or self._get_memory(fraction=True) > threshold:
            gc.collect()
            if self.device.type == "cuda":
                torch.cuda.empty_cache()

    @property
    def epochs(self) -> int:
        return self.args.epochs

    @epochs.setter
    def epochs(self, value: int) -> None:
        self.args.epochs = value

    @property
    def batch_size(self) -> int:
        return int(self.args.batch)

    @property
    def amp(self) -> bool:
        """Whether any part of a step runs below float32."""
        return self.precision.name != "fp32"

    @amp.setter
    def amp(self, value: bool | str) -> None:
        self.args.amp = value

    def remaining_seconds(self) -> float:
        """What the epochs that are left will take, at the pace so far."""
        return time_budget.seconds_per_epoch(self) * max(self.epochs - self.epoch - 1, 0)

    def _mosaic_is_closed(self) -> bool:
        return self.args.close_mosaic > 0 and self.epoch >= self.epochs - self.args.close_mosaic

    def _close_dataloader_mosaic(self) -> None:
        """From this epoch on, samples come without mosaic, mixup, cutmix and copy-paste."""
        self.mixing = False
        first = self.epoch * len(self.train_loader)
        self.plot_idx.extend(range(first, first + 3))

    def _model_train(self) -> None:
        """Training mode; BatchNorm of what is frozen now keeps its statistics."""
        self.model.train()
        self.freeze_plan.settle(unwrap(self.model), self.freeze_layer_names, self.args.freeze_bn)

    def _memory_format(self) -> torch.memory_format:
        return torch.contiguous_format if self.args.channels_last is False else torch.channels_last

    # ------------------------------------------------------------------ helpers

    def run_callbacks(self, event: str) -> None:
        """Call everything that listens to `event`, in the watchdog's sight."""
        watchdog.note(self, event, through=False)
        super().run_callbacks(event)
        watchdog.note(self, event, through=True)

    def _take_device(self) -> None:
        """This object may have travelled: a rank uses another GPU than the process that made it."""
        device = select_device(self.args.device)
        if device != self.device:
            self.device, self.precision = device, choose(self.args.amp, device)
            self.scaler = self.precision.scaler

    def _try(self, picture: Callable[[], None]) -> None:
        """A picture that cannot be drawn does not end a run."""
        try:
            picture()
        except Exception as error:
            LOGGER.warning(f"{getattr(picture, '__name__', 'a picture')} failed ({error}); the run goes on without it")

    def _close_loaders(self) -> None:
        for loader in (self.train_loader, self.test_loader):
            close = getattr(loader, "close", None)
            if close is not None:
                close()


def _mean(mean: Tensor, value: Tensor, count: int, counts: Tensor) -> Tensor:
    """The mean of `count` values, `value` the last of them, if it `counts` (() bool); in the place of NaN, it alone."""
    updated = mean + (value - mean) / count
    return torch.where(counts, torch.where(mean.isfinite(), updated, value), mean)
