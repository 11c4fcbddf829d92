"""The training loop, top to bottom.

    zoo train spikeyolo-pico --data digits --steps 6000 --out runs/digits

A run is a folder: ``train.json`` (settings), ``metrics.csv`` (loss parts), ``validation.csv`` (if asked for), ``checkpoints/``,
and at the end ``model/`` with the deployed model. Starting the same command again continues where it stopped, and ends with
the very same weights (bit for bit on a CPU with the same number of threads) as a run that was never interrupted.
"""

from __future__ import annotations

import math
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zoo.config import InputSpec, ModelConfig
from zoo.data import open_dataset
from zoo.data.sample import DetectionDataset
from zoo.detectors.detector import Detector
from zoo.detectors.registry import create, describe
from zoo.errors import CheckpointError, ConfigError, TrainingError
from zoo.heads.anchors import AnchorLoss
from zoo.heads.boxes import Targets
from zoo.heads.dfl import DetectionLoss
from zoo.heads.yolox import YOLOXLoss
from zoo.support.progress import Progress, progress_bar
from zoo.training.batches import Batches
from zoo.training.config import TrainConfig
from zoo.training.folder import METRICS, VALIDATION, RunFolder, claim
from zoo.training.schedule import AveragedModel, cosine_factor
from zoo.training.seeding import random_state, reproducible, restore_random_state

VALIDATION_SEED = 1  # `zoo val` measures on seed 0


def train(
    config: TrainConfig, out_dir: str | Path, *, stop_after: int | None = None, start: Detector | None = None
) -> Detector:
    """Train a detector from random weights, or continue an interrupted run.

    Args:
        config: settings.
        out_dir: folder of the run; may hold an interrupted run with the same settings.
        stop_after: leave after this many steps of the whole run, as if interrupted then.
        start: fine-tune this detector instead of one with random weights.

    Returns:
        The averaged detector in training form, eval mode.

    Raises:
        TrainingError: the folder holds something else, or the loss is no longer finite.
        DataError, ConfigError, UnknownModelError: settings that cannot be met; nothing has been written then.
        CheckpointError: the checkpoints of the interrupted run are damaged.
    """
    with reproducible(config.seed, config.threads):
        spec = start.config.input if start is not None else input_of(config)
        dataset = open_dataset(
            config.data, "train", length=config.train_length, seed=config.seed, image_size=config.image_size, spec=spec
        )
        validation = None
        if config.validate_every:
            validation = open_dataset(
                config.data,
                config.validate_split,
                length=config.validate_length,
                seed=VALIDATION_SEED,
                image_size=config.image_size,
                spec=spec,
            )
        run = Run(config, dataset, start)
        with claim(Path(out_dir), config) as folder:
            run.restore(folder.load())
            last = config.steps if stop_after is None else min(stop_after, config.steps)
            with progress_bar("training", total=config.steps, start=run.step) as bar:
                _loop(run, folder, last, validation, bar)
    return run.averaged.model  # type: ignore[return-value]


def _loop(run: Run, folder: RunFolder, last: int, validation: DetectionDataset | None, bar: Progress) -> None:
    config = run.config
    started = time.monotonic() - folder.last(METRICS, "seconds")
    for images, targets in run.batches.iterate(run.step, last, workers=config.workers):
        values = run.advance(images, targets)
        seconds = time.monotonic() - started
        if run.step % config.log_every == 0:
            folder.log(METRICS, {"step": run.step, "seconds": seconds, **values})
        if validation is not None and run.step % config.validate_every == 0:
            folder.log(VALIDATION, {"step": run.step, "seconds": seconds, **_measure(run.averaged.model, validation)})
        if run.step % config.checkpoint_every == 0 or run.step == config.steps:
            folder.save(run.step, run.state())
        bar.advance(" ".join(f"{name} {values[name]:.2f}" for name in ("box", "cls", "dfl", "obj") if name in values))


class Run:
    """Everything that changes during training, so that it can be saved and restored as one.

    Args:
        config: settings.
        dataset: to train on.
        start: instead of random weights.

    Raises:
        UnknownModelError, ConfigError: a detector that cannot be.
        DataError: an empty data set.
    """

    def __init__(self, config: TrainConfig, dataset: DetectionDataset, start: Detector | None = None) -> None:
        self.config = config
        self.step = 0
        detector = _create(config, dataset) if start is None else start
        if tuple(detector.class_names) != tuple(dataset.class_names):
            raise ConfigError(f"the detector and the data set {config.data} do not have the same classes")
        # several times faster than the default layout for depthwise convolutions on a CPU
        self.detector: Detector = detector.to(_device(config)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.loss = make_loss(detector.config, config)
        self.batches = Batches(dataset, detector.config.input, batch_size=config.batch_size, seed=config.seed)
        self.averaged = AveragedModel(self.detector, config.ema_decay)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.detector, config.weight_decay), lr=config.lr)

    def advance(self, images: Tensor, targets: Targets) -> dict[str, float]:
        """One optimiser step on images (B, C, H, W) or micro-slices (Tm, B, 2, H, W).

        Returns:
            The loss parts, the gradient norm and the learning rate.

        Raises:
            TrainingError: a part of the loss, or the gradient, is not finite; the weights are those of the step before.
        """
        config = self.config
        factor = cosine_factor(self.step, steps=config.steps, warmup_steps=config.warmup_steps, final=config.final_lr)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor
        self.detector.train()
        raw = self.detector(_channels_last(images))
        parts = self.loss(raw, targets.to(config.device))
        values = {name: part.item() for name, part in parts.items()}
        self._require_finite(values)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        values["grad_norm"] = nn.utils.clip_grad_norm_(self.detector.parameters(), config.clip).item()
        self._require_finite(values)
        self.optimizer.step()
        self.averaged.update(self.detector)
        self.step += 1
        return values | {"lr": config.lr * factor}

    def _require_finite(self, values: dict[str, float]) -> None:
        wrong = [f"{name} = {value}" for name, value in values.items() if not math.isfinite(value)]
        if wrong:
            raise TrainingError(
                f"at step {self.step} the loss is no longer finite: {', '.join(wrong)}. The last checkpoint is intact; "
                "start a new run with a lower lr or clip"
            )

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "step": self.step,
            "model": self.detector.state_dict(),
            "averaged": self.averaged.model.state_dict(),
            "updates": self.averaged.updates,
            "optimizer": self.optimizer.state_dict(),
            "random": random_state(),
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint, if there is one.

        Raises:
            CheckpointError: it belongs to another version of the architecture.
        """
        if state is None:
            return
        try:
            self.detector.load_state_dict(state["model"])
            self.averaged.model.load_state_dict(state["averaged"])
            self.averaged.updates = state["updates"]
            self.optimizer.load_state_dict(state["optimizer"])
            restore_random_state(state["random"])
            self.step = state["step"]
        except (KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(f"the checkpoint was written by another version of the zoo: {error}") from None


def _channels_last(images: Tensor) -> Tensor:
    """The same (B, C, H, W) or (Tm, B, C, H, W), channels last in memory."""
    folded = images.flatten(0, -4).contiguous(memory_format=torch.channels_last)
    return folded.unflatten(0, images.shape[:-3])


def input_of(config: TrainConfig) -> InputSpec:
    """What the detector to be trained takes.

    Raises:
        UnknownModelError, ConfigError: a detector that cannot be.
    """
    return describe(config.arch, num_classes=1, **_settings(config)).input


def _create(config: TrainConfig, dataset: DetectionDataset) -> Detector:
    names = list(dataset.class_names)
    return create(config.arch, num_classes=len(names), class_names=names, **_settings(config))


def _settings(config: TrainConfig) -> dict[str, Any]:
    return {
        "time_steps": config.time_steps,
        "levels": config.levels,
        "image_size": config.image_size,
        "class_agnostic": config.class_agnostic,
        **config.variant,
    }


def make_loss(model: ModelConfig, config: TrainConfig) -> DetectionLoss | AnchorLoss | YOLOXLoss:
    """The loss that goes with a head.

    Raises:
        ConfigError: a gain for a part that this head's loss does not have.
    """
    decode = model.decode
    gains = {
        name: gain
        for name in ("box_gain", "class_gain", "dfl_gain", "objectness_gain")
        if (gain := getattr(config, name)) is not None
    }
    foreign = gains.keys() & ({"objectness_gain"} if decode.kind == "dfl" else {"dfl_gain"})
    if foreign:
        raise ConfigError(f"the loss of {config.arch} has no {', '.join(sorted(foreign))}")
    if decode.kind == "yolox":
        return YOLOXLoss(decode.strides, model.num_classes, **gains)
    if decode.anchors is None:
        return DetectionLoss(decode.strides, decode.reg_max, model.num_classes, **gains)
    exponential = decode.kind == "anchors_exp"
    return AnchorLoss(decode.strides, decode.anchors, model.num_classes, exponential=exponential, **gains)


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for convolution weights; none for biases and norms."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


def _measure(detector: nn.Module, dataset: DetectionDataset) -> dict[str, float]:
    from zoo.evaluation import evaluate

    metrics = evaluate(detector, dataset)  # type: ignore[arg-type]
    return {"mAP50": metrics.map50, "mAP50-95": metrics.map50_95}


def _device(config: TrainConfig) -> torch.device:
    device = torch.device(config.device)
    there = {"cuda": torch.cuda.device_count() > (device.index or 0), "mps": torch.backends.mps.is_available()}
    if not there.get(device.type, True):
        raise ConfigError(f"this machine has no device {config.device!r}; choose another one, for example cpu")
    return device
