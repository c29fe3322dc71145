"""YOLO: load, train, validate and predict on one object."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from torch import nn

from sightline import download
from sightline.artifacts.weights_file import WeightsFile, read_weights
from sightline.callbacks import base as callback_base
from sightline.config.load import Overrides, make_settings
from sightline.config.settings import Settings
from sightline.errors import ModelError, SettingTypeError, SettingValueError, UsageError
from sightline.log import LOGGER, configure
from sightline.models.build import build_from_state, build_model
from sightline.models.weights import TransferReport, transfer
from sightline.tasks import Task, get_task


class YOLO:
    """A detector: its network, its classes, and what can be done with them.

    Args:
        model: a network description (`yolo26n.yaml`: random weights) or weights (`yolo26n.pt`, `best.pt`, a state dict,
            `.safetensors`). Official names are looked up in the working directory, the weights cache, then downloaded.
        task: what the model does; read from the file when left out.
        verbose: print a summary of the network.

    Raises:
        MissingFileError: there is no such file.
        ModelError: the description is wrong, or the weights are for another task.
        CheckpointError: the weights cannot be read safely.
    """

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
        self._weights_loaded = False  # whether training starts from the weights of `model`
        get_task(self.task)
        if isinstance(model, nn.Module):
            self.model, self._weights_loaded = model, True
        elif str(model).strip().endswith((".yaml", ".yml")):
            self._new(str(model).strip())
        else:
            self._load(str(model).strip(), task)
        if verbose:
            self.info()

    # ------------------------------------------------------------------ making the network

    def _new(self, name: str) -> None:
        self.cfg = name
        self.model = build_model(name)
        self.overrides = {"model": name}

    def _load(self, name: str, task: str | None) -> None:
        path = download.fetch_weights(name)
        self.ckpt = read_weights(path)
        if task and self.ckpt.task and self.ckpt.task != task:
            raise ModelError(f"{path} holds a model for task={self.ckpt.task}, not task={task}.")
        self.task = self.ckpt.task or self.task
        get_task(self.task)
        if self.ckpt.yaml is None:
            raise ModelError(
                f"{path} holds tensors only, not which network they belong to. "
                "Build the network first: YOLO('yolo26n.yaml').load('" + name + "')."
            )
        self.model = build_from_state(self.ckpt.yaml, nc=self.ckpt.nc, names=self.ckpt.names, state=self.ckpt.state)
        self.ckpt_path = str(path)
        self._weights_loaded = True
        self.overrides = {"model": str(path)}
        for setting in ("data", "imgsz", "single_cls"):  # what validation and prediction should repeat
            value = (self.ckpt.args or {}).get(setting)
            if value is not None:
                self.overrides[setting] = value

    def load(self, weights: str | Path | Mapping[str, Any] | nn.Module | YOLO = "yolo26n.pt") -> YOLO:
        """Copy weights into this network where names and shapes fit, and report how much did. Returns self."""
        configure()
        names = None
        if isinstance(weights, (str, Path)):
            source = read_weights(download.fetch_weights(str(weights)))
            state, names = source.state, source.names
        elif isinstance(weights, Mapping):
            state = dict(weights)
        else:
            network = weights.model if isinstance(weights, YOLO) else weights
            state, names = network.state_dict(), getattr(network, "names", None)
        report: TransferReport = transfer(self.model, state, source_names=names)
        if report.transferred == 0:
            raise ModelError(
                f"No tensor of {weights if isinstance(weights, (str, Path)) else 'the weights'} fits this network."
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
            "yaml": model.yaml,
            "names": dict(model.names),
            "nc": model.nc,
            "stride": model.stride.float().cpu(),
            "model": {name: value.detach().cpu() for name, value in model.state_dict().items()},
            "args": {},
            "epoch": -1,
        }
        save_checkpoint(Path(path), state)

    # ------------------------------------------------------------------ training, validation, prediction

    def train(self, trainer: Any = None, **settings: Any) -> Any:
        """Train; afterwards this object holds the best weights. Returns the metrics of the final validation.

        Args:
            trainer: a subclass of the task's trainer, used in its place.
            settings: any training setting, for example data="bccd.yaml", epochs=100, imgsz=320.
        """
        return self._run("train", settings, origin="code", part=trainer)

    def val(self, validator: Any = None, **settings: Any) -> Any:
        """Validate; returns the metrics object (`.box.map`, `.results_dict`, …). `data`: as in training."""
        return self._run("val", settings, origin="code", part=validator)

    def predict(self, source: Any = None, stream: bool = False, predictor: Any = None, **settings: Any) -> Any:
        """Detect objects; returns a list of Results, or a generator with stream=True."""
        return self._run("predict", {**settings, "source": source}, origin="code", part=predictor, stream=stream)

    def __call__(self, source: Any = None, stream: bool = False, **settings: Any) -> Any:
        return self.predict(source, stream=stream, **settings)

    def _run(
        self, mode: str, settings: Mapping[str, Any], *, origin: str, part: Any = None, stream: bool = False
    ) -> Any:
        """What the methods above and the command line have in common: one checked Settings object, then the part."""
        given = {name: value for name, value in settings.items() if name != "model"}
        if mode == "train":
            return self._train(given, origin, part)
        source = given.pop("source", None) if mode == "predict" else None
        if mode == "predict":
            inherited = {name: value for name, value in self.overrides.items() if name in ("imgsz",)}
        else:
            inherited = {
                name: value for name, value in self.overrides.items() if name in ("data", "imgsz", "single_cls")
            }
        base = make_settings(mode, inherited, origin="checkpoint")
        checked = make_settings(mode, given, origin=origin, base=base)
        configure(verbose=checked.verbose)
        if mode == "val":
            return self._val(checked, part)
        return self._predict(checked, part, source, stream)

    def _train(self, given: dict[str, Any], origin: str, part: Any) -> Any:
        trainer_class = self._part("trainer", part)
        overrides = {**given, "model": self.overrides.get("model")}
        if given.get("data") is None and self.overrides.get("data") is not None and not given.get("resume"):
            overrides["data"] = self.overrides["data"]
        if given.get("resume") is True and self.ckpt_path is not None:
            overrides["resume"] = self.ckpt_path
        base = make_settings("train", overrides, origin=origin)
        configure(verbose=base.verbose)
        self.trainer = trainer_class(cfg=base, overrides=Overrides(overrides), _callbacks=self.callbacks)
        if self._weights_loaded and self.trainer.checkpoint is None:
            self.trainer.source = self.model
        self.trainer.train()
        best = self.trainer.best if self.trainer.best.exists() else self.trainer.last
        if best.exists():
            self._load(str(best), None)
        self.metrics = getattr(self.trainer.validator, "metrics", None)
        return self.metrics

    def _val(self, settings: Settings, part: Any) -> Any:
        if settings.data is None:
            raise UsageError("val needs a data set: data=file.yaml (a trained model remembers its own).")
        validator = self._part("validator", part)(args=settings, _callbacks=self.callbacks)
        validator(model=self.model)
        self.validator, self.metrics = validator, validator.metrics
        return validator.metrics

    def _predict(self, settings: Settings, part: Any, source: Any, stream: bool) -> Any:
        if source is None:
            raise UsageError("predict needs a source: an image, a folder, a video, a list, an array or a URL.")
        self.predictor = self._part("predictor", part)(args=settings, _callbacks=self.callbacks)
        return self.predictor(source, model=self.model, stream=stream)

    def _part(self, name: str, given: Any) -> Any:
        """The task's class, or the user's in its place."""
        row: Task = get_task(self.task)
        if given is None:
            return row.load(name)
        if not inspect.isclass(given) and not callable(given):
            raise SettingTypeError(
                f"{name}={given!r} is not a class. Pass the class itself: {name}=MyClass, not an object of it."
            )
        if not inspect.isclass(given) and not inspect.isfunction(given):
            raise SettingTypeError(
                f"{name} is an instance of {type(given).__name__}. Pass the class itself, "
                f"{name}={type(given).__name__}: sightline makes the object with the settings of the run."
            )
        return given

    # ------------------------------------------------------------------ looking at it, changing it

    def info(self, detailed: bool = False, verbose: bool = True) -> tuple[int, int, int, float]:
        """(layers, parameters, gradients, GFLOPs at 640 px)."""
        configure()
        return self.model.info(detailed=detailed, verbose=verbose)

    def fuse(self) -> YOLO:
        """Fold BatchNorm into the convolutions and drop the branch that is not used, for faster inference."""
        self.model.eval()
        self.model.fuse()
        return self

    def eval(self) -> YOLO:
        self.model.eval()
        return self

    def to(self, device: Any) -> YOLO:
        self.model.to(device)
        return self

    @property
    def names(self) -> dict[int, str]:
        """Class index → name."""
        return self.model.names

    @property
    def device(self) -> Any:
        return next(self.model.parameters()).device

    def add_callback(self, event: str, func: Callable[[Any], Any]) -> None:
        """Call `func` with the trainer, validator or predictor at `event` (`sightline.callbacks.base` lists them)."""
        self.callbacks[callback_base.check_event(event)].append(func)

    def clear_callback(self, event: str) -> None:
        self.callbacks[callback_base.check_event(event)] = []

    def reset_callbacks(self) -> None:
        self.callbacks = callback_base.empty_table()

    def copy(self) -> YOLO:
        """An independent copy."""
        return deepcopy(self)


__all__ = ["YOLO", "SettingValueError"]
