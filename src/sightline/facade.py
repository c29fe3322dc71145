"""YOLO and RTDETR: load, train, validate and predict on one object."""

from __future__ import annotations

import functools
import inspect
import os
from collections.abc import Callable, Mapping
from copy import copy, deepcopy
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sightline import download
from sightline.artifacts.checkpoint import load_latest
from sightline.artifacts.weights_file import WeightsFile, read_weights
from sightline.backends.load import network_of
from sightline.callbacks import base as callback_base
from sightline.config.groups.run import LATER_MODES
from sightline.config.load import Overrides, make_settings
from sightline.config.settings import CHECKPOINT, Settings
from sightline.config.support import check_supported
from sightline.errors import ModelError, SettingTypeError, SettingValueError, UsageError
from sightline.log import LOGGER, configure
from sightline.models.backbone_weights import in_names_of
from sightline.models.build import build_model, reset_weights
from sightline.models.contract import check_network
from sightline.models.fuse import fuse
from sightline.models.rebuild import plain_description
from sightline.models.training_settings import settings_in_file
from sightline.models.weights import TransferReport, is_folded, transfer
from sightline.tasks import TASKS, Task, get_task, is_called
from sightline.train import freeze
from sightline.tune import batch_find, lr_find
from sightline.tune.batch_find import BatchFinding
from sightline.tune.lr_find import LrFinding

# What a checkpoint remembers and validation and prediction repeat, unless they are told otherwise.
REMEMBERED = ("data", "imgsz", "single_cls")


class YOLO:
    """A detector: its network, its classes, and what can be done with them.

    Args:
        model: a network description (`yolo26n.yaml`: random weights), weights (`yolo26n.pt`, `best.pt`) or a network of
            this library. Official names are looked up in the working directory, the weights cache, then downloaded.
            Files that hold tensors only (state dicts, `.safetensors`) go into a network with `load`.
        task: what the model does; read from the file when left out.
        verbose: print a summary of the network.

    Raises:
        MissingFileError: there is no such file.
        SettingTypeError: `model` is none of these.
        ModelError: the description is wrong, or the weights are for another task.
        CheckpointError: the weights cannot be read safely.
    """

    only_task: str | None = None  # what a subclass is for, if not for all

    def __init__(
        self, model: str | Path | nn.Module = "yolo26n.pt", task: str | None = None, verbose: bool = False
    ) -> None:
        self.callbacks: callback_base.CallbackTable = callback_base.empty_table()
        self.overrides: dict[str, Any] = {}
        self.ckpt: WeightsFile | None = None
        self.ckpt_path: str | None = None
        self.cfg: str | None = None
        self.trainer: Any = None
        self.predictor: Any = None
        self.validator: Any = None
        self.metrics: Any = None
        self.model: Any = None
        self.task: str = task or "detect"
        self._weights_loaded = False  # these two decide whether the weights are worth anything: `_is_untrained`
        self._changes_when_new = 0
        self._said_untrained = False
        get_task(self.task)
        if isinstance(model, nn.Module):
            self._take(model)
        elif not isinstance(model, (str, os.PathLike)) or not str(model).strip():
            raise SettingTypeError(
                f"model={model!r:.80} ({type(model).__name__}) is no model. Give a description (yolo26n.yaml), weights "
                "(yolo26n.pt, best.pt) or a network."
            )
        elif str(model).strip().endswith((".yaml", ".yml")):
            self._new(str(model).strip())
            if not is_called(self.task, task):
                raise ModelError(f"{model} describes a model for task={self.task}, not task={task}.")
        else:
            self._load(str(model).strip(), task)
        if self.only_task not in (None, self.task):
            shown = model if isinstance(model, (str, os.PathLike)) else type(model).__name__
            raise ModelError(
                f"{type(self).__name__}({shown!s:.80}): this is a model for task={self.task}, not for "
                f"task={self.only_task}. Use YOLO({shown!s:.80}), which takes all."
            )
        if verbose:
            self.info()

    # ------------------------------------------------------------------ making the network

    def _new(self, name: str) -> None:
        self.cfg = name
        self.model = build_model(name)
        self.task = self.model.task
        self.overrides = {"model": name}
        self._changes_when_new = _changes(self.model)

    def _take(self, network: nn.Module) -> None:
        """A network as it is, with whatever the user has changed in it."""
        check_network(network)
        self.model, self._weights_loaded = network, True
        self.task = getattr(network, "task", self.task)
        get_task(self.task)

    def _load(self, name: str, task: str | None, like: nn.Module | None = None) -> None:
        """The network of a file; `like` is the one that the file was just written from."""
        path, self.ckpt = _fetch_and_read(name)
        if task and self.ckpt.task and not is_called(self.ckpt.task, task):
            raise ModelError(f"{path} holds a model for task={self.ckpt.task}, not task={task}.")
        self.task = self.ckpt.task or self.task
        if self.task not in TASKS:
            raise ModelError(
                f"{path} holds a model for task={self.task}, which is not in sightline yet. "
                f"There is: {', '.join(TASKS)}."
            )
        if self.ckpt.yaml is None and self.ckpt.origin is None:
            raise ModelError(
                f"{path} holds tensors only, not which network they belong to. "
                "Build the network first: YOLO('yolo26n.yaml').load('" + name + "')."
            )
        if self.ckpt.origin is not None and self.ckpt.origin.is_own:
            configure()  # what is said about the class of the network must be seen
        self.model = network_of(self.ckpt, like=like)
        self._changes_when_new = _changes(self.model)
        self.ckpt_path = str(path)
        self._weights_loaded = True
        self.overrides = {"model": str(path)}
        for setting in REMEMBERED:
            value = (self.ckpt.args or {}).get(setting)
            if value is not None:
                self.overrides[setting] = value

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module | YOLO = "yolo26n.pt") -> YOLO:
        """Copy weights into this network where names and shapes fit, and report how much did. Returns self.

        Args:
            weights: a file of any kind, a state dict, a network, or another YOLO.

        Raises:
            MissingFileError: there is no such file.
            CheckpointError: it cannot be read safely.
            SettingTypeError: something else was given.
            ModelError: nothing fits.
        """
        configure()
        names = None
        if isinstance(weights, (str, os.PathLike)):
            source = read_weights(download.fetch_weights(str(weights)))
            state, names = source.state, source.names
        elif isinstance(weights, Mapping):
            state = dict(weights)
            wrong = next((name for name, value in state.items() if not isinstance(value, Tensor)), None)
            if wrong is not None or not state:
                found = "is empty" if wrong is None else f"has a {type(state[wrong]).__name__} under {wrong!r:.60}"
                raise SettingTypeError(f"weights: a state dict holds tensors by name, but this one {found}.")
        elif not isinstance(weights, (nn.Module, YOLO)):
            raise SettingTypeError(
                f"weights={weights!r:.80} ({type(weights).__name__}) cannot be loaded. Allowed: a file, a state dict, "
                "a network or another YOLO."
            )
        else:
            network = weights.model if isinstance(weights, YOLO) else weights
            state, names = network.state_dict(), getattr(network, "names", None)
        layers = getattr(self.model, "model", None)
        renamed = in_names_of(layers, state) if isinstance(layers, nn.Sequential) else None
        if renamed is not None:
            LOGGER.info(
                f"These are weights of a classifier: {len(renamed)} of its {len(state)} tensors belong to the backbone."
            )
            state = renamed
        report: TransferReport = transfer(self.model, state, source_names=names)
        if report.transferred == 0:
            what = weights if isinstance(weights, (str, os.PathLike)) else "the weights"
            raise ModelError(
                f"No tensor of {what} fits this network: {len(state)} there, {report.total} here, no name and shape in "
                f"common. There: {', '.join(list(state)[:3])}. Build the network that they belong to."
            )
        LOGGER.info(report.summary())
        self._weights_loaded = True
        return self

    def save(self, path: str | Path = "saved_model.pt") -> None:
        """Write the network as a light checkpoint that `YOLO(path)` reads."""
        import sightline
        from sightline.artifacts.checkpoint import save_checkpoint

        model = self.model
        state = {
            "format": "sightline",
            "version": sightline.__version__,
            "task": self.task,
            **plain_description(model),
            "model": {name: value.detach().cpu() for name, value in model.state_dict().items()},
            "args": {name: self.overrides[name] for name in REMEMBERED if name in self.overrides},
            "epoch": -1,
        }
        save_checkpoint(Path(path), state)

    # ------------------------------------------------------------------ training, validation, prediction

    def train(self, trainer: Any = None, *, callbacks: Any = None, **settings: Any) -> Any:
        """Train; afterwards this object holds the best weights. Returns the metrics of the final validation.

        With `dry_run=True` nothing is kept, and what is returned says which callbacks and methods were called.

        Args:
            trainer: a subclass of the task's trainer, used in its place.
            callbacks: for this run, after those of `add_callback`: a list of Callback objects, pairs (event, function),
                tables {event: function}, or functions that bear the name of their event.
            settings: any training setting, for example data="bccd.yaml", epochs=100, imgsz=320.

        Raises:
            SettingsError: a setting or `trainer` is wrong; nothing was started.
            DataError: the data cannot be used.
            MissingFileError: the data is not there.
            OutputError: the run folder cannot be written.
        """
        self._refuse_another_model(settings)
        return self._run("train", settings, origin="code", part=trainer, callbacks=callbacks)

    def resume(self, last: str | Path | bool = True, **settings: Any) -> Any:
        """Go on with an interrupted run, or make a finished one longer: `YOLO("last.pt").resume(epochs=900)`.

        Args:
            last: the run's last.pt or folder; True is the file that this object was made from.
            settings: what is to be different from now on; docs/resume.md says what each may do to the run.
                `trainer` and `callbacks` as in `train`.

        Raises:
            SettingsError: one of them cannot change in a run that goes on, or the run is finished.
        """
        return self.train(resume=last if isinstance(last, bool) else str(last), **settings)

    def tune(
        self,
        use_ray: bool | None = None,
        iterations: int | None = None,
        *,
        space: str | Path | Mapping[str, Any] | None = None,
        resume: str | Path | bool = False,
        trainer: Any = None,
        callbacks: Any = None,
        **settings: Any,
    ) -> Any:
        """Search for better settings by many runs of `train`; returns a `TuneResult`. docs/tuning.md is the guide.

        This object stays as it is; `result.best_weights` and `result.best_file` say where the best is.

        Args:
            use_ray: the older name of engine="ray".
            iterations: the older name of trials=.
            space: what is searched: a YAML file or a dict; None is the built-in space.
            resume: the folder of a study to go on with; True is runs/<task>/tune of the working directory.
            trainer: as in `train`.
            callbacks: as in `train`.
            settings: trials, method, engine, pruner, parallel, grace_period, gpu_per_trial, cpu_per_trial, address, and
                any training setting.

        Raises:
            SettingsError: a setting is wrong, or would be searched without being in force; nothing was started.
            MissingExtraError: Optuna or Ray is not installed.
            TrainingError: the first trials fail, all for one reason.
        """
        self._refuse_another_model(settings)
        settings |= {name: value for name, value in {"use_ray": use_ray, "iterations": iterations}.items() if value}
        return self._tune(settings, space, resume, origin="code", trainer=trainer, callbacks=callbacks)

    def lr_find(self, trainer: Any = None, **settings: Any) -> LrFinding:
        """Try learning rates with the steps that training would make, and say which lr0 suits them.

        Writes a picture of the curve and its numbers into runs/<task>/lr-find. The network stays as it is.

        Args:
            trainer: a subclass of the task's trainer, used in its place.
            settings: those that training will have: data, batch, optimizer, …

        Raises:
            SettingsError, UsageError: a setting is wrong, or the test makes no sense with it (resume, several devices).
            DataError, MissingFileError, OutputError: the data cannot be used, the folder not be written.
        """
        self._refuse_another_model(settings)
        finding: LrFinding = self._run("train", settings, origin="code", part=trainer, instead=lr_find.find)
        return finding

    def batch_find(self, trainer: Any = None, **settings: Any) -> BatchFinding:
        """Try batches with the steps that training would make: time, memory, and how noisy their gradients are.

        Writes a picture and numbers into runs/<task>/batch-find, and recommends batch, accumulate and lr0, as
        `.settings`. The network stays as it is.

        Args:
            trainer: a subclass of the task's trainer, used in its place.
            settings: those that training will have: data, imgsz, optimizer, …

        Raises:
            SettingsError, UsageError: a setting is wrong, or the test makes no sense with it (resume, several devices).
            DataError, MissingFileError, OutputError: the data cannot be used, the folder not be written.
        """
        self._refuse_another_model(settings)
        finding: BatchFinding = self._run("train", settings, origin="code", part=trainer, instead=batch_find.find)
        return finding

    def val(self, validator: Any = None, **settings: Any) -> Any:
        """Validate; returns the metrics object (`.box.map`, `.results_dict`, …). `data`: as in training."""
        self._refuse_another_model(settings)
        return self._run("val", settings, origin="code", part=validator)

    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **settings: Any) -> Any:
        """Detect objects; returns a list of Results, or a generator with stream=True."""
        self._refuse_another_model(settings)
        return self._run("predict", {**settings, "source": source}, origin="code", part=predictor, stream=stream)

    def __call__(self, source: Any = None, stream: bool = False, **settings: Any) -> Any:
        return self.predict(source, stream=stream, **settings)

    def _run(
        self,
        mode: str,
        settings: Mapping[str, Any],
        *,
        origin: str,
        part: Any = None,
        stream: bool = False,
        callbacks: Any = None,
        instead: Callable[[Any], Any] | None = None,
    ) -> Any:
        """What the methods above and the command line have in common: one checked Settings object, then the part.

        Args:
            mode: train, val or predict.
            settings: what was asked for; `model` is left out of it, because this object is the model.
            origin: where that came from, "code" or "command line".
            part: a class in the place of the task's trainer, validator or predictor.
            stream: predict as a generator.
            callbacks: train with these, too.
            instead: called with the trainer in the place of its `train`.
        """
        given = {name: value for name, value in settings.items() if name != "model"}
        source = given.pop("source", None) if mode == "predict" else None
        if given.get("task") is not None and is_called(self.task, given["task"]):
            given["task"] = self.task
        repeated = {"train": ("data",), "val": REMEMBERED, "predict": ("imgsz",)}[mode]
        if mode == "train" and given.get("resume"):
            repeated = ()  # the run that goes on has settings of its own
        remembered = {name: self.overrides[name] for name in repeated if name in self.overrides}
        base = make_settings(mode, remembered, origin=CHECKPOINT)
        if mode == "train":
            given["model"] = self.overrides.get("model")
            if given.get("resume") is True and self.ckpt_path is not None:
                given["resume"] = self.ckpt_path
        checked = make_settings(mode, given, origin=origin, base=base, in_model_file=settings_in_file)
        if checked.task != self.task and is_called(self.task, checked.task):  # from a file
            checked.assign("task", self.task, origin="auto")
        check_supported(checked)
        configure(verbose=checked.verbose)
        if mode == "train":
            self.trainer = self._new_trainer(checked, {**remembered, **given}, part, callback_base.entries(callbacks))
            return self._train(self.trainer) if instead is None else instead(self.trainer)
        if self._is_untrained() and not self._said_untrained:
            self._said_untrained = True
            LOGGER.warning(
                f"model={self.cfg} is a description, its weights are random: what it finds means nothing. "
                "Train it, or give weights (.pt)."
            )
        if mode == "val":
            return self._val(checked, part)
        return self._predict(checked, part, checked.source if source is None else source, stream)

    def _new_trainer(self, settings: Settings, given: Mapping[str, Any], part: Any, callbacks: list[Any]) -> Any:
        """A trainer that begins with this network, or with fresh random weights where it has not learnt anything."""
        from_here = not self._is_untrained()  # else the trainer makes its own random weights, from its seed
        if from_here and not settings.resume and is_folded(self.model.state_dict()):
            raise ModelError(
                f"model={self.overrides.get('model')} was folded for inference by fuse() and cannot train. "
                "Start from the weights of before."
            )
        trainer = self._make("trainer", part, "train", cfg=settings, overrides=Overrides(given))
        trainer.add_callbacks(callbacks)
        if from_here:  # a resume has weights of its own, and asks this network only for what its file cannot say
            trainer.source = self.model
        trainer.frozen_by_user = freeze.frozen_names(self.model)
        return trainer

    def _train(self, trainer: Any) -> Any:
        trainer.train()
        if trainer.args.dry_run:
            return trainer.dry_run_report
        best = trainer.best if trainer.best.exists() else trainer.last
        if best.exists():
            self._load(str(best), None, like=getattr(trainer.ema, "ema", None))
        self.metrics = getattr(trainer.validator, "metrics", None)
        return self.metrics

    def _tune(
        self,
        given: Mapping[str, Any],
        space: str | Path | Mapping[str, Any] | None,
        resume: str | Path | bool,
        *,
        origin: str,
        trainer: Any = None,
        callbacks: Any = None,
    ) -> Any:
        from sightline.tune import request

        configure()
        changed, rest = request.options(given)
        request.check_extras(changed.get("engine"))
        from sightline.tune import search  # loads Optuna
        from sightline.tune.plan import Options
        from sightline.tune.trial import TrainTrial

        run = TrainTrial(
            source=None if self._is_untrained() else self.model,
            trainer=trainer,
            callbacks=[*callback_base.entries(self.callbacks), *callback_base.entries(callbacks)],
            is_from_file=_changes(self.model) == self._changes_when_new,
        )
        if resume:
            plan = search.continued(request.folder_of(resume, self.task), rest, changed)
        else:
            remembered = {"data": self.overrides["data"]} if "data" in self.overrides else {}
            base = make_settings("train", remembered, origin=CHECKPOINT)
            rest = {**rest, "model": self.overrides.get("model")}
            checked = make_settings("train", rest, origin=origin, base=base, in_model_file=settings_in_file)
            checked.assign("task", self.task, origin="auto")
            check_supported(checked)
            plan = search.prepare(checked, Options(**changed), space, run=run)
        return search.run_study(plan, run)

    def _val(self, settings: Settings, part: Any) -> Any:
        if settings.data is None:
            raise UsageError("val needs a data set: data=file.yaml (a trained model remembers its own).")
        self.validator = self._make("validator", part, "__call__", args=settings)
        self.validator(model=self.model)
        self.metrics = self.validator.metrics
        return self.metrics

    def _predict(self, settings: Settings, part: Any, source: Any, stream: bool) -> Any:
        if source is None:
            raise UsageError("predict needs a source: an image, a folder, a video, a list, an array or a URL.")
        before = self.predictor
        self.predictor = self._make("predictor", part, "__call__", args=settings)
        if before is not None and hasattr(self.predictor, "adopt"):
            self.predictor.adopt(before)  # a loop over frames must not copy and fold the network each time
        return self.predictor(source, model=self.model, stream=stream)

    def _make(self, name: str, given: Any, method: str, **arguments: Any) -> Any:
        """An object of the task's class for this part, or of the user's in its place; `method` is what it must have."""
        row: Task = get_task(self.task)
        usual = row.load(name)
        if given is None:
            return usual(**arguments, _callbacks=self.callbacks)
        if not (inspect.isclass(given) or inspect.isroutine(given) or isinstance(given, functools.partial)):
            raise SettingTypeError(
                f"{name}={given!r:.80} is an object of {type(given).__name__}, not a class. Pass the class itself, "
                f"{name}={type(given).__name__ if isinstance(given, usual) else f'My{name.capitalize()}'}: sightline "
                "makes the object, with the settings of the run."
            )
        made = given(**arguments, _callbacks=self.callbacks)
        if not callable(getattr(made, method, None)):
            raise SettingTypeError(
                f"{name}={getattr(given, '__name__', given)} makes a {type(made).__name__}, which has no method "
                f"{method}. Derive your class from {usual.__module__}.{usual.__name__}."
            )
        return made

    def _refuse_another_model(self, settings: Mapping[str, Any]) -> None:
        other = settings.get("model")
        if other is not None and str(other) != str(self.overrides.get("model")):
            own = self.overrides.get("model", type(self.model).__name__)
            raise SettingValueError(
                f"model={other!s:.80}, but this object holds {own}. "
                "Leave `model` out, or make another object: YOLO(model)."
            )

    def _is_untrained(self) -> bool:
        """Whether the network is as it was built: nothing was loaded, trained, or written into its weights by hand."""
        return not self._weights_loaded and self.cfg is not None and _changes(self.model) == self._changes_when_new

    # ------------------------------------------------------------------ looking at it, changing it

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int, int, float]:
        """(layers, parameters, gradients, GFLOPs at 640 px)."""
        configure()
        if not hasattr(self.model, "info"):
            raise ModelError(
                f"The network {type(self.model).__name__} has no method info, and no description to count by."
            )
        return self.model.info(detailed=detailed, verbose=verbose)

    def fuse(self) -> YOLO:
        """Fold BatchNorm into the convolutions, for faster inference; of two branches the NMS-free one stays.

        Folded, a network finds the same and cannot train any more. Validation and prediction fold a copy by themselves.
        """
        self.model.eval()
        if getattr(self.model, "end2end", False) and hasattr(self.model, "use_end2end"):
            self.model.use_end2end(True)  # what the switch leaves off is dropped, and deployment has it on
        if hasattr(self.model, "fuse"):
            self.model.fuse()
        else:
            fuse(self.model)
        return self

    def reset_weights(self) -> YOLO:
        """Random weights in the network as it is, all of them trainable."""
        reset_weights(self.model)
        self._weights_loaded, self._changes_when_new = False, _changes(self.model)
        return self

    def eval(self) -> YOLO:
        """Put the network into evaluation mode, for those who call it themselves. Returns self."""
        self.model.eval()
        return self

    def to(self, device: Any) -> YOLO:
        """Move the network to a device, given as torch takes it. Returns self."""
        self.model.to(device)
        return self

    @property
    def names(self) -> dict[int, str]:
        """Class index → name."""
        return self.model.names

    @property
    def device(self) -> Any:
        """Where the network is now."""
        return next(self.model.parameters()).device

    def add_callback(self, event: str | callback_base.Callback, func: Callable[[Any], Any] | None = None) -> None:
        """Call `func` with the trainer, validator or predictor at `event` (`sightline.callbacks.base` lists them); or
        let a Callback object listen."""
        for name, function in callback_base.entries([(event, func) if isinstance(event, str) else event]):
            self.callbacks[name].append(function)

    def clear_callback(self, event: str) -> None:
        """Forget what was added for `event`."""
        self.callbacks[callback_base.check_event(event)] = []

    def reset_callbacks(self) -> None:
        """Forget all that was added."""
        self.callbacks = callback_base.empty_table()

    def copy(self) -> YOLO:
        """An independent copy of the network and what belongs to it; what the last run left stays with this object."""
        twin = copy(self)
        twin.trainer = twin.validator = twin.predictor = twin.metrics = None
        twin.__dict__.update({name: deepcopy(value) for name, value in twin.__dict__.items()})
        return twin

    def __getattr__(self, name: str) -> Any:
        """What this class does not know is looked up in the network: `stride`, `yaml`, `nc`, …"""
        if name in (*LATER_MODES, "embed"):
            raise AttributeError(f"'{name}' exists in Ultralytics, not in sightline yet.")
        network = self.__dict__.get("model")  # not self.model: before there is one, that would come back here
        if network is None or name.startswith("__"):
            raise AttributeError(f"'{type(self).__name__}' has no attribute '{name}'.")
        return getattr(network, name)


class RTDETR(YOLO):
    """A detector of the RT-DETR family: `YOLO` that takes nothing else.

    Args:
        model: as for `YOLO`: `rtdetr-l.yaml`, -x, -resnet50, -resnet101, your own description with an `RTDETRDecoder`,
            weights, or a network.
        task: "detect" or "rtdetr".
        verbose: print a summary of the network.

    Raises:
        ModelError: the model is of another family. Otherwise as `YOLO`.
    """

    only_task = "rtdetr"

    def __init__(
        self, model: str | Path | nn.Module = "rtdetr-l.pt", task: str | None = None, verbose: bool = False
    ) -> None:
        super().__init__(model, task=task, verbose=verbose)


def _fetch_and_read(name: str) -> tuple[Path, WeightsFile]:
    """The file; where it is the last.pt of a run, damaged or gone, what was saved before it, with a warning. Its path
    stays that of the last.pt."""
    path = Path(name).expanduser()
    if path.name != "last.pt":
        path = download.fetch_weights(name)
        return path, read_weights(path)
    weights, _ = load_latest(path, lambda file: read_weights(download.fetch_weights(file)), tell=_warn)
    return path, weights


def _warn(text: str) -> None:
    configure()  # so that it is seen
    LOGGER.warning(text)


def _changes(network: nn.Module) -> int:
    """How often weights were written to: torch counts it for every tensor."""
    return sum(parameter._version for parameter in network.parameters())


__all__ = ["RTDETR", "YOLO"]
