"""Everything that can be read on a trainer: what is trained, where it goes, and where the run is."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from sightline.artifacts.events import Events
from sightline.callbacks.early_stop import EarlyStopping
from sightline.train.assignable import Assignable
from sightline.train.dry_run import DryRun, Rehearsal
from sightline.train.dumps import BatchDumps
from sightline.train.ema import unwrap
from sightline.train.freeze_plan import FreezePlan
from sightline.train.goals import Goals
from sightline.train.guard import StepGuard
from sightline.train.interrupt import Interrupt
from sightline.train.micro_batches import MicroBatches
from sightline.train.recovery import Recovery

if TYPE_CHECKING:
    from sightline.train.range_test import RangeTest


class RunState(Assignable):
    """The attributes of a run with their values before it starts; docs/customising.md says when each makes sense.

    Args:
        callbacks: of the user, see `callbacks.base.entries`.
        first: callbacks that are called before those.
    """

    def __init__(self, callbacks: Any, *, first: list[Any]) -> None:
        super().__init__(callbacks, first=first)

        # what is trained, on what
        self.data: dict[str, Any] = {}  # at least train, val, names and nc
        self.model: Any = self.args.model  # a name or file until setup_model, a module from then on
        self.source: Any = None  # where initial weights come from: a module or a weights file; None is random
        self.loaded_tensors: set[str] = set()  # names of the network's tensors that came from there; others are random
        self.ema: Any = None
        self.optimizer: Any = None
        self.scheduler: Any = None
        self.schedule: Any = None  # what drives the learning rates: the scheduler, in a common form
        self.lf: Callable[[float], float] | None = None
        self.train_loader: Any = None
        self.test_loader: Any = None
        self.validator: Any = None
        self.stopper = EarlyStopping(self.args.patience)
        self.goals = Goals()  # what the setting `fitness` asks for; without it the validator's fitness counts
        self.logged: tuple[str, ...] = ()  # metrics beside the means, in full
        self.stride = 32

        # where it goes
        self.save_dir = Path()
        self.made_folders: list[Path] = []  # save_dir and those above it that did not exist before
        self.wdir = Path()
        self.last = Path()
        self.best = Path()
        self.csv = Path()
        self.events = Events()  # events.jsonl: `trainer.events.add("kind", fact=…)`

        # where the run is
        self.epoch = 0
        self.start_epoch = 0
        self.batch_index = 0
        self.accumulate = 1
        self.last_opt_step = -1
        self.stop = False  # leave the batch loop, finish the epoch, end the run
        self.stop_training = False  # end the run after this epoch
        self.mixing = True  # mosaic and its kind; False from close_mosaic on
        self.unstaged_augmentation: dict[str, float] = {}  # where no stage of augment_schedule says anything
        self.images_in_batch = 0
        self.objects_in_batch = 0  # labelled ones, as the network sees the batch
        self.loss: Tensor | None = None
        self.loss_items: dict[str, Tensor] = {}
        self.tloss: dict[str, Tensor] | None = None  # running mean over the epoch's batches
        self.loss_names: tuple[str, ...] = ()
        self.lr: dict[str, float] = {}
        self.grad_norm: Tensor | None = None
        self.guard = StepGuard(self.events.add)  # of bad steps
        self.micro_batches = MicroBatches()  # where a whole batch does not fit into the memory
        self.dumps = BatchDumps()  # of bad batches
        self.recovery = Recovery()  # back to the last good state
        self.metrics: dict[str, float] = {}  # of the last validation
        self.validated = False  # whether that was in this epoch
        self.history: dict[str, list[float]] = {}
        self.fitness: float | None = None
        self.best_fitness: float | None = None
        self.best_written: float | None = None  # fitness of the best.pt on the disk
        self.new_best = False
        self.epoch_time: float | None = None
        self.epoch_time_start = 0.0
        self.train_time_start = 0.0
        self.time_before = 0.0  # seconds of the runs that this one resumes
        self.frozen_by_user: frozenset[str] = frozenset()  # parameters whose requires_grad was off before the run
        self.freeze_plan = FreezePlan()
        self.freeze_layer_names: list[str] = []  # read at the start of every epoch; what is edited holds from then on
        self.in_force: dict[str, str] = {}  # setting → what it does in this run; shown at the start
        self.plots: dict[str, Any] = {}
        self.plot_idx = [0, 1, 2]  # iterations of which a picture is kept
        self.first_batch = 0  # of start_epoch; above 0 where a resumed run goes on in its middle
        self.settings_before_epoch: dict[str, Any] = {}  # what the events of its start may change
        self.random_before_batches: dict[str, Any] | None = None  # generators, when the loader was last asked to begin
        self.rank_states: list[dict[str, Any]] = []  # what each rank has of its own, at the moment of a checkpoint
        self.saver: Any = None  # saving.Saver, while the run lasts
        self.interrupt = Interrupt()
        self.rehearsal: Rehearsal | None = None
        self.dry_run_report: DryRun | None = None
        self.lr_test: RangeTest | None = None  # what lr0=find has seen before the run

    @property
    def place(self) -> str:
        """Where the run is, for messages: `epoch 3, batch 7`, both counted from 1."""
        return f"epoch {self.epoch + 1}, batch {self.batch_index + 1}"

    @property
    def network(self) -> Any:
        """The module inside `model`, which may be wrapped by DistributedDataParallel or `torch.compile`."""
        return unwrap(self.model)
