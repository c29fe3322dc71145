"""Pictures in, results out: read a batch, letterbox, run the network, hand out and write what was found.

    on_predict_start
    for every batch:
        on_predict_batch_start
        preprocess → inference → postprocess
        on_predict_postprocess_end
        pictures, labels, crops, the line on the console
        on_predict_batch_end
    on_predict_end

A task fills in `postprocess`; the rest is here.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sightline.artifacts.run_dir import make_run_dir
from sightline.backends.device import select_device
from sightline.backends.load import load_network
from sightline.backends.timing import StageTimer
from sightline.backends.torch_model import TorchModel, private_copy
from sightline.callbacks.base import call_all
from sightline.config.image_size import fit_imgsz
from sightline.config.load import make_settings
from sightline.config.settings import Settings
from sightline.data.transforms.letterbox import letterbox_image
from sightline.errors import SettingValueError, UnreadableSourceError, UsageError
from sightline.log import LOGGER
from sightline.models.contract import check_task, named_classes
from sightline.ops.letterbox import letterbox_geometry
from sightline.predict.frames import Frame, Source
from sightline.predict.outputs import Outputs
from sightline.predict.sources import open_source
from sightline.structures.pictures import Picture, check_windows, show_picture
from sightline.structures.results import Results

STAGES = ("preprocess", "inference", "postprocess")
DEFAULT_CONF = 0.25


class BasePredictor:
    """Runs a network over a source.

    The network given is never changed: a private, folded copy of it runs. Calling a predictor again with the same,
    unchanged network uses the same copy.

    Args:
        args: settings, as an object or a dict.
        _callbacks: event → functions, each called with the predictor.

    Attributes:
        source: where the pictures come from (`dataset` is the same object).
        model: what runs them.
        batch: the batch in work: paths, pictures (H, W, C) BGR, and how their lines on the console begin.
        results: what was found in it. Callbacks may replace it; that is then written and handed out.
        save_dir: the folder of the run; None as long as nothing is saved.
        seen: pictures so far.
        speed: milliseconds a picture for preprocess, inference and postprocess, over all pictures.
    """

    task = ""

    def __init__(
        self,
        args: Settings | Mapping[str, Any] | None = None,
        _callbacks: dict[str, list[Callable[[Any], Any]] | None] | None = None,
    ) -> None:
        self.args: Settings = args if isinstance(args, Settings) else make_settings("predict", dict(args or {}))
        self.callbacks: dict[str, list[Callable[[Any], Any]] | None] = {} if _callbacks is None else _callbacks
        self.device = torch.device("cpu")
        self.model: TorchModel | None = None
        self.source: Any = None
        self.imgsz: tuple[int, int] = (0, 0)  # height and width of the letterbox
        self.batch: tuple[list[str], list[Picture], list[str]] = ([], [], [])
        self.results: Any = []
        self.save_dir: Path | None = None
        self.seen = 0
        self.speed: dict[str, float] = dict.fromkeys(STAGES, 0.0)
        self._outputs: Outputs | None = None
        self._copied: tuple[Any, Any] = (None, None)  # reference to the network the copy is of, and its state then
        self._stopped = False

    @property
    def dataset(self) -> Any:
        return self.source

    @property
    def conf(self) -> float:
        """Scores must be above it."""
        return DEFAULT_CONF if self.args.conf is None else self.args.conf

    def __call__(self, source: Any = None, model: nn.Module | str | Path | None = None, stream: bool = False) -> Any:
        """Predict.

        Args:
            source: what `sightline.predict.sources` knows; None takes `args.source`.
            model: a network or weights file; None takes the one of the last call.
            stream: return a generator that works as it is read, instead of a list.

        Returns:
            A `Results` for every picture that could be read, in order.

        Raises:
            MissingSourceError: there is nothing under the name of the source.
            UnreadableSourceError: no picture of it could be read.
        """
        results = self.stream_inference(source, model)
        return results if stream else list(results)

    def stream_inference(self, source: Any = None, model: nn.Module | str | Path | None = None) -> Iterator[Results]:
        """Set everything up now, so that mistakes show at once, and return a generator that does the work."""
        self._check_settings()
        self.setup_model(model)
        self.setup_source(source)
        return self._results_of(self.source)

    def _results_of(self, source: Source) -> Iterator[Results]:
        """The loop. Files are finished even when the reader stops reading."""
        totals = dict.fromkeys(STAGES, 0.0)
        shape: tuple[int, ...] = ()
        self.run_callbacks("on_predict_start")
        try:
            for frames in source:
                shape = self._predict_batch(frames, totals)
                # Outside every torch context, which the reader's code would otherwise run in.
                yield from self.results
                if self._stopped:
                    break
        finally:
            source.close()
            if self._outputs is not None:
                self._outputs.close()
        self.speed = {stage: total / max(self.seen, 1) for stage, total in totals.items()}
        self._report(source, shape)
        self.run_callbacks("on_predict_end")

    def _predict_batch(self, frames: list[Frame], totals: dict[str, float]) -> tuple[int, ...]:
        """Everything between reading a batch and handing out its results. Returns the shape of the network's input."""
        self.batch = ([frame.path for frame in frames], [frame.image for frame in frames], [f.title for f in frames])
        if self._wants_folder() and self._outputs is None:
            # Not earlier: a source of which nothing can be read leaves no empty folder.
            self.save_dir = make_run_dir(self.args, self.task, "predict")
            self._outputs = Outputs(self.save_dir, vid_stride=self.args.vid_stride)
        self.run_callbacks("on_predict_batch_start")
        timer = StageTimer(self.device, STAGES)
        with torch.inference_mode():
            with timer.stage("preprocess"):
                images = self.preprocess(self._network_input(frames))
            with timer.stage("inference"):
                output = self.inference(images)
        # Suppression works on the host, so here we wait for the device. Not in inference mode: users may go on
        # calculating with what they get.
        with torch.no_grad(), timer.stage("postprocess", waits=True):
            self.results = self.postprocess(output, images, self.batch[1])
        self.run_callbacks("on_predict_postprocess_end")
        speed = timer.milliseconds_per(len(frames))
        for stage, milliseconds in speed.items():
            totals[stage] += milliseconds * len(frames)
        for frame, result in zip(frames, self.results, strict=True):
            result.speed, result.save_dir = dict(speed), self.save_dir
            self.write_results(frame, result, images.shape)
        self.seen += len(frames)
        self.run_callbacks("on_predict_batch_end")
        return tuple(images.shape)

    # ------------------------------------------------------------------ parts that tasks and users replace

    def setup_model(self, model: nn.Module | str | Path | None) -> None:
        """Make the copy that runs, unless there is one of just this network."""
        if model is None:
            if self.model is None:
                raise UsageError("A predictor needs a model: predictor(source, model=network).")
            return
        network = load_network(model)
        check_task(network, self.task)
        self._check_classes(network)
        self.device = select_device(self.args.device)
        state = self._state_of(network)
        reference, known = self._copied
        if self.model is None or reference is None or reference() is not network or known != state:
            self.model = private_copy(
                network,
                device=self.device,
                nms=self.args.nms,
                max_det=self.args.max_det,
                agnostic_nms=self.args.agnostic_nms,
                channels_last=self.args.channels_last,
                attention_kernel=self.args.attention_kernel,
            )
            self._copied = (weakref.ref(network), state)

    def adopt(self, earlier: Any) -> None:
        """Take over the copy that an earlier predictor made; it is used if it is of the same, unchanged network."""
        if isinstance(earlier, BasePredictor):  # a user's own class may have none
            self.model, self._copied = earlier.model, earlier._copied

    def setup_source(self, source: Any) -> None:
        """Open the source, settle the size of the letterbox, and start counting."""
        assert self.model is not None
        size = fit_imgsz(self.args, self.model.stride)
        self.imgsz = (size, size) if isinstance(size, int) else (size[0], size[1])
        self.source = open_source(
            self.args.source if source is None else source,
            batch=int(self.args.batch),
            vid_stride=self.args.vid_stride,
            stream_buffer=self.args.stream_buffer,
            channels=self.model.channels,
            stride=self.model.stride,
        )
        self.seen, self.save_dir, self._outputs, self._stopped = 0, None, None, False

    def pre_transform(self, images: Sequence[Picture]) -> list[Picture]:
        """Letterbox (H, W, C) pictures to one size.

        With `rect`, and when all have one shape, they are padded only to the next multiple of the stride.
        """
        assert self.model is not None
        auto = bool(self.args.rect) and len({image.shape for image in images}) == 1
        framed = []
        for image in images:
            shape = (image.shape[0], image.shape[1])
            geometry = letterbox_geometry(shape, self.imgsz, auto=auto, stride=self.model.stride)
            framed.append(letterbox_image(image, geometry))
        return framed

    def preprocess(self, images: Tensor | Sequence[Picture]) -> Tensor:
        """To the network's input: (B, C, H, W) RGB in [0, 1], on the device.

        Args:
            images: (H, W, C) BGR uint8 pictures, which are letterboxed; or a tensor that is RGB in [0, 1] already.
        """
        assert self.model is not None
        if not isinstance(images, Tensor):
            stacked = np.stack(self.pre_transform(images))  # (B, H, W, C)
            if stacked.shape[-1] == 3:
                stacked = stacked[..., ::-1]
            images = torch.from_numpy(np.ascontiguousarray(stacked.transpose(0, 3, 1, 2)))
        return self.model.preprocess(images)

    def inference(self, images: Tensor) -> Tensor:
        """The decoded output of the network for images that `preprocess` returned."""
        assert self.model is not None
        return self.model(images)[0]

    def postprocess(self, output: Tensor, images: Tensor, originals: Sequence[Picture]) -> list[Results]:
        """Results in pixels of the original pictures. A task fills this in.

        Args:
            output: what `inference` returned.
            images: (B, C, H, W), the network's input.
            originals: the pictures as read.
        """
        raise NotImplementedError

    def write_results(self, frame: Frame, result: Results, shape: Sequence[int]) -> None:
        """Pictures, label files, crops, the window and the line on the console, as the settings ask."""
        args, outputs = self.args, self._outputs
        spent = result.speed["inference"] or 0.0
        if args.verbose:
            LOGGER.info(f"{frame.title}: {shape[2]}x{shape[3]} {result.verbose()}{spent:.1f}ms")
        if args.save or args.show or args.save_frames:
            drawn = result.plot(
                conf=args.show_conf, labels=args.show_labels, boxes=args.show_boxes, line_width=args.line_width
            )
            if outputs is not None and args.save:
                outputs.picture(frame, drawn)
            if outputs is not None and args.save_frames:
                outputs.frame(frame, drawn)
            if args.show:
                self.show(frame, drawn)
        if outputs is not None and args.save_txt:
            outputs.text(frame, result, save_conf=args.save_conf)
        if outputs is not None and args.save_crop:
            outputs.crops(frame, result)

    def show(self, frame: Frame, drawn: Picture) -> None:
        """In a window named after the source: a picture for half a second, a video as it comes; q ends the run."""
        key = show_picture(drawn, frame.path, wait_ms=500 if frame.kind == "image" else 1)
        self._stopped = self._stopped or key & 0xFF == ord("q")

    # ------------------------------------------------------------------ callbacks

    def add_callback(self, event: str, function: Callable[[Any], Any]) -> None:
        self.callbacks[event] = [*(self.callbacks.get(event) or []), function]

    def run_callbacks(self, event: str) -> None:
        call_all(self.callbacks.get(event), event, self)

    # ------------------------------------------------------------------ small parts

    def _network_input(self, frames: Sequence[Frame]) -> Tensor | list[Picture]:
        ready = [frame.ready for frame in frames if frame.ready is not None]
        return torch.stack(ready) if len(ready) == len(frames) else [frame.image for frame in frames]

    def _wants_folder(self) -> bool:
        args = self.args
        return bool(args.save or args.save_txt or args.save_crop or args.save_frames)

    def _check_settings(self) -> None:
        if self.args.visualize:
            raise SettingValueError(
                "visualize=True: pictures of activations are not in sightline yet. Leave it out of predict."
            )
        if self.args.show:
            check_windows()

    def _check_classes(self, network: Any) -> None:
        unknown = [index for index in self.args.classes or () if index not in named_classes(network.names)]
        if unknown:
            raise SettingValueError(
                f"classes={self.args.classes}: the model has no class {unknown[0]}. "
                f"It has {len(network.names)} classes, 0 to {len(network.names) - 1}."
            )

    def _state_of(self, network: nn.Module) -> tuple[Any, ...]:
        """What the private copy depends on; changes when a weight does, because tensors count their changes."""
        tensors = (*network.parameters(), *network.buffers())
        args = self.args
        return (
            *(args.nms, args.max_det, args.agnostic_nms, args.channels_last, args.attention_kernel, self.device),
            tuple(named_classes(network.names).items()),
            tuple((tensor.data_ptr(), tensor._version) for tensor in tensors if not tensor.is_inference()),
        )

    def _report(self, source: Source, shape: tuple[int, ...]) -> None:
        """The last lines on the console; an error when there was nothing to work on."""
        skipped = source.skipped
        if self.seen == 0 and not self._stopped:
            reason = f" {skipped[0][1]}" if skipped else ""
            more = f" So it is with {len(skipped) - 1} more." if len(skipped) > 1 else ""
            raise UnreadableSourceError(f"source={source.name}: no picture could be read.{reason}{more}")
        if skipped:
            LOGGER.warning(f"{len(skipped)} of {len(skipped) + self.seen} pictures could not be read and were skipped.")
        if self.args.verbose:
            times = ", ".join(f"{self.speed[stage]:.1f}ms {stage}" for stage in STAGES)
            LOGGER.info(f"Speed: {times} per image at shape {(1, *shape[1:])}")
        if self.save_dir is not None:
            LOGGER.info(f"Results saved to {self.save_dir}")
        if self._outputs is not None and self.args.save_txt:
            LOGGER.info(f"{self._outputs.labels} label files saved to {self._outputs.folder / 'labels'}")
