"""The training loop, top to bottom.

    zoo train spikeyolo-pico --data digits --steps 6000 --out runs/digits

A run is a folder: ``train.json`` (settings), ``metrics.csv`` (loss parts), ``validation.csv`` (if asked for), ``checkpoints/``,
and at the end ``model/`` with the deployed model. Starting the same command again continues where it stopped, and ends with
the very same weights (bit for bit on a CPU with the same number of threads) as a run that was never interrupted.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import ModelConfig, parse_config
from zoo.data import split_of
from zoo.data.augment import Augmenter
from zoo.data.sample import DetectionDataset
from zoo.detectors.detector import Detector
from zoo.errors import CheckpointError, ConfigError, DataError, DataWarning, TrainingError, ZooError
from zoo.heads.table import Loss, head_of
from zoo.support.progress import Progress, progress_bar
from zoo.training.batches import Batch, Batches
from zoo.training.config import TrainConfig
from zoo.training.digest import digest, require_same
from zoo.training.folder import METRICS, VALIDATION, RunFolder, claim
from zoo.training.interrupts import Interrupted, Interrupts, interrupts
from zoo.training.schedule import make_average, make_schedule
from zoo.training.seeding import random_state, reproducible, restore_random_state
from zoo.training.sets import open_training_set, open_validation_set
from zoo.training.start import build, model_config

Say = Callable[[str], None]
LOSS_PARTS = ("box", "cls", "dfl", "obj")
"""Shown behind the progress bar."""


def train(
    config: TrainConfig,
    out_dir: str | Path,
    *,
    stop_after: int | None = None,
    start: Detector | None = None,
    say: Say = lambda _: None,
) -> Detector:
    """Train a detector, or continue an interrupted run.

    Everything that can be wrong is looked for first: the folder, the settings, the data, the space on the disk, and the first
    batch. Ctrl-C and SIGTERM write a checkpoint and then raise :class:`zoo.training.interrupts.Interrupted`.

    Args:
        config: settings.
        out_dir: folder of the run; may hold an interrupted run with the same recipe.
        stop_after: leave after this many steps of the whole run, as if interrupted then.
        start: fine-tune this detector instead of one with random weights; ``config.start`` names where it comes from.
        say: receives what is worth knowing before the first step, a sentence at a time.

    Returns:
        The averaged detector in training form, eval mode.

    Raises:
        TrainingError: the folder holds something else, the data of an interrupted run changed, the disk is full, or the loss is
            no longer finite.
        DataError, ConfigError, UnknownModelError: settings that cannot be met; nothing has been written then.
        CheckpointError: the checkpoints of the interrupted run are damaged.
    """
    with reproducible(config.seed, config.threads), claim(Path(out_dir), config) as folder:
        state = folder.load()
        before = _model_before(config, state, start)
        spec = model_config(config, ["object"], before).input
        dataset = open_training_set(config, spec)
        validation = open_validation_set(config, spec, dataset.class_names)
        run = Run(config, model_config(config, dataset.class_names, before), dataset, start)
        if state is not None:
            require_same(state["data"], run.data, dataset)
        run.try_first_batch()
        run.restore(state)
        folder.begin(run.step, checkpoint_bytes=run.nbytes)
        last = config.steps if stop_after is None else min(stop_after, config.steps)
        if run.taken_over is not None and not run.step:
            say(f"from {config.start or 'the model given'}, {run.taken_over.summary()}")
        say(run.summary(folder.path))
        if validation is not None:
            say(
                f"mAP every {config.validate_every:,} steps on {len(validation):,} images (split {split_of(validation)})"
            )
        with progress_bar("training", total=config.steps, start=run.step) as bar, interrupts() as received:
            _loop(run, folder, last, validation, bar, received)
    return run.averaged.module  # type: ignore[return-value]


def _loop(
    run: Run, folder: RunFolder, last: int, validation: DetectionDataset | None, bar: Progress, received: Interrupts
) -> None:
    config = run.config
    started = time.monotonic() - folder.last(METRICS, "seconds")
    batches = run.batches.iterate(run.step, last, workers=config.workers)
    try:
        while run.step < last:
            with received.held():
                batch = next(batches)
                run.warn_of_unreadable(batch)
                values = run.advance(batch)
            seconds = time.monotonic() - started
            if run.step % config.log_every == 0:
                folder.log(METRICS, {"step": run.step, "seconds": seconds, **values})
            if run.step % config.checkpoint_every == 0 or run.step == config.steps:
                with received.held():
                    folder.save(run.step, run.state())
            if validation is not None and run.step % config.validate_every == 0:
                for row in _measure(run.averaged.module, validation, run.step):
                    folder.log(VALIDATION, {"step": run.step, "seconds": seconds, **row})
            bar.advance(" ".join(f"{name} {value:.2f}" for name, value in values.items() if name in LOSS_PARTS))
    except (Interrupted, DataError):
        folder.save(run.step, run.state())
        raise
    finally:
        batches.close()


class Run:
    """Everything that changes during training, so that it can be saved and restored as one.

    Args:
        config: settings.
        model: of the detector to be trained.
        dataset: to train on.
        start: instead of random weights.

    Raises:
        UnknownModelError, ConfigError: a detector that cannot be.
        DataError: an empty data set.
    """

    def __init__(
        self, config: TrainConfig, model: ModelConfig, dataset: DetectionDataset, start: Detector | None = None
    ) -> None:
        self.config = config
        self.step = 0
        self.data = digest(dataset)
        detector, self.taken_over = build(model, start)
        # several times faster than the default layout for depthwise convolutions on a CPU
        self.detector: Detector = detector.to(_device(config)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = make_loss(model, config)
        self.batches = Batches(dataset, model.input, batch_size=config.batch_size, seed=config.seed)
        if not config.augmentation.changes_nothing:
            size = model.input.image_size
            self.batches.augment = Augmenter(config.augmentation, size, self.batches.readable, len(dataset))
        self.averaged = make_average(self.detector, config.ema_decay)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.detector, config.weight_decay), lr=config.lr)
        self.schedule = make_schedule(
            self.optimizer, steps=config.steps, warmup_steps=config.warmup_steps, final=config.final_lr
        )
        self._warned: set[str] = set()

    def advance(self, batch: Batch) -> dict[str, float]:
        """One optimiser step.

        Returns:
            The loss parts, the gradient norm and the learning rate.

        Raises:
            TrainingError: a part of the loss, or the gradient, is not finite; the weights are those of the step before.
        """
        lr = float(self.optimizer.param_groups[0]["lr"])
        values = self._gradient(batch)
        self.optimizer.step()
        self.schedule.step()
        self.averaged.update_parameters(self.detector)
        self.step += 1
        return values | {"lr": lr}

    def _gradient(self, batch: Batch) -> dict[str, float]:
        self.detector.train()
        with self._memory(batch):
            raw = self.detector(_channels_last(batch.images))
            parts = self.loss(raw, batch.targets.to(self.config.device))
            values = {name: part.item() for name, part in parts.items()}
            self._require_finite(values)
            self.optimizer.zero_grad(set_to_none=True)
            torch.stack(list(parts.values())).sum().backward()
        values["grad_norm"] = nn.utils.clip_grad_norm_(self.detector.parameters(), self.config.clip).item()
        self._require_finite(values)
        return values

    def try_first_batch(self) -> None:
        """Compute the first step without taking it: what cannot be computed shows before anything is written.

        Raises:
            ConfigError: the batch, or the images, are too small for batch norm.
            DataError: no image can be read.
            TrainingError: the memory is too small, or the loss is not finite.
        """
        random, buffers = random_state(), [buffer.clone() for buffer in self.detector.buffers()]
        batch = self.batches[0]
        self.warn_of_unreadable(batch)
        try:
            self._gradient(batch)
        except ValueError as error:
            if "more than 1 value per channel" not in str(error):
                raise
            raise ConfigError(
                f"batch norm cannot be trained on {len(batch.targets.labels)} image of {self.detector.image_size[0]} pixels: "
                "its deepest maps hold one value per channel; raise batch_size or image_size"
            ) from None
        finally:
            self.optimizer.zero_grad(set_to_none=True)
            for buffer, before in zip(self.detector.buffers(), buffers, strict=True):
                buffer.copy_(before)
            restore_random_state(random)

    @contextmanager
    def _memory(self, batch: Batch) -> Iterator[None]:
        try:
            yield
        except (
            MemoryError,
            RuntimeError,
        ) as error:  # torch.OutOfMemoryError is a RuntimeError; on a CPU it has no type
            if not isinstance(error, MemoryError | torch.OutOfMemoryError) and "DefaultCPUAllocator" not in str(error):
                raise
            raise TrainingError(
                f"a batch of shape {tuple(batch.images.shape)} does not fit into the memory of {self.config.device}: lower "
                "batch_size, image_size or time_steps"
            ) from None

    def _require_finite(self, values: dict[str, float]) -> None:
        wrong = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            advice = "The last checkpoint is intact; start a new run with a lower lr or clip"
            if self.step == 0:
                advice = "Nothing was learned yet: look at the boxes of the data and the gains of the loss"
            raise TrainingError(f"at step {self.step} the loss is not finite: {', '.join(wrong)}. {advice}")

    def warn_of_unreadable(self, batch: Batch) -> None:
        """Warn of each image that cannot be read once."""
        for message in batch.unreadable:
            if message not in self._warned:
                self._warned.add(message)
                warnings.warn(f"{message}; another image takes its place", DataWarning, stacklevel=2)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "step": self.step,
            "config": self.detector.config.to_json(),
            "data": self.data,
            "model": self.detector.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "random": random_state(),
        }

    @property
    def nbytes(self) -> int:
        """Size of a checkpoint: weights, their averages, two moments of the optimiser, and one number in twenty more."""
        weights = sum(tensor.nbytes for tensor in self.detector.state_dict().values())
        return int(4.2 * weights) + self.data["entries"].nbytes + 2**17

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint, if there is one.

        Raises:
            CheckpointError: it belongs to another version of the architecture.
        """
        if state is None:
            return
        try:
            self.detector.load_state_dict(state["model"])
            self.averaged.load_state_dict(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            self.schedule.load_state_dict(state["schedule"])
            restore_random_state(state["random"])
            self.step = state["step"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint was written by another version of the zoo: {error}") from None

    def summary(self, out_dir: Path) -> str:
        """What is going to be done, in one sentence."""
        names, count, size = self.detector.class_names, len(self.batches.dataset), self.batches.batch_size
        what = "images" if self.detector.encoder is None else "clips"
        shown = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
        epochs = self.config.steps / self.batches.per_epoch
        doing = "continuing at" if self.step else "training from"
        split = f" (split {name})" if (name := split_of(self.batches.dataset)) else ""
        return (
            f"{self.config.arch} on {count:,} {what}{split} of {len(names)} classes ({shown}): {doing} step {self.step:,} of "
            f"{self.config.steps:,}, {size} {what} each ({epochs:.1f} epochs), in {out_dir}"
        )


def _channels_last(images: Tensor) -> Tensor:
    """The same (B, C, H, W) or (Tm, B, C, H, W), channels last in memory."""
    folded = images.flatten(0, -4).contiguous(memory_format=torch.channels_last)
    return folded.unflatten(0, images.shape[:-3])


def _model_before(config: TrainConfig, state: dict[str, Any] | None, start: Detector | None) -> ModelConfig | None:
    """The configuration that settings which say nothing leave as it is: of the model to start from."""
    if state is not None and not {"config", "data", "schedule"} <= state.keys():
        raise CheckpointError("the checkpoint was written by an older version of the zoo; start the run again")
    if start is not None:
        return start.config
    if config.start is None:
        return None
    if state is None:
        raise ConfigError(f"load {config.start} and pass it as start=, or use `zoo train --from {config.start}`")
    return parse_config(state["config"], source="the checkpoint")


def make_loss(model: ModelConfig, config: TrainConfig) -> Loss:
    """The loss that goes with a head.

    Raises:
        ConfigError: a gain for a part that this head's loss does not have.
    """
    head = head_of(model.decode)
    gains = {
        name: gain
        for name in ("box_gain", "class_gain", "dfl_gain", "objectness_gain")
        if (gain := getattr(config, name)) is not None
    }
    if foreign := gains.keys() - head.gains:
        raise ConfigError(f"the loss of {config.arch} has no {', '.join(sorted(foreign))}")
    return head.loss(model.decode, model.num_classes, **gains)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for convolution weights; none for biases and norms."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _measure(detector: nn.Module, dataset: DetectionDataset, step: int) -> list[dict[str, float]]:
    """One row of mAP; none, and a warning, where the images of the validation cannot be measured."""
    from zoo.evaluation import evaluate

    try:
        metrics = evaluate(detector, dataset)  # type: ignore[arg-type]
    except (ZooError, OSError) as error:
        warnings.warn(f"mAP could not be measured after step {step}: {error}", DataWarning, stacklevel=2)
        return []
    return [{"mAP50": metrics.map50, "mAP50-95": metrics.map50_95}]


def _device(config: TrainConfig) -> torch.device:
    device = torch.device(config.device)
    there = {"cuda": torch.cuda.device_count() > (device.index or 0), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, True):
        raise ConfigError(f"this machine has no device {config.device!r}; choose another one, for example cpu")
    return device
