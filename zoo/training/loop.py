"""The training loop, top to bottom.

    zoo train spikeyolo-pico --data digits --steps 6000 --out runs/digits

A run is a folder: ``train.json`` (settings), ``metrics.csv`` (loss parts per step), ``checkpoints/``, and at the end ``model/``
with the deployed model. Starting the same command again continues where it stopped, and ends with the very same weights
(bit for bit on a CPU with the same number of threads) as a run that was never interrupted.
"""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from zoo.data import open_dataset
from zoo.data.sample import DetectionDataset
from zoo.detectors.base import Detector
from zoo.detectors.registry import create
from zoo.errors import TrainingError
from zoo.files import write_atomically
from zoo.progress import Progress, progress_bar
from zoo.training import checkpoint
from zoo.training.batches import Batches
from zoo.training.config import TrainConfig
from zoo.training.losses import DetectionLoss
from zoo.training.schedule import AveragedModel, cosine_factor


def train(config: TrainConfig, out_dir: Path, *, stop_after: int | None = None) -> Detector:
    """Train a detector from random weights, or continue an interrupted run.

    Args:
        config: settings.
        out_dir: folder of the run; may hold an interrupted run with the same settings.
        stop_after: leave after this many steps of the whole run, as if interrupted.

    Returns:
        The averaged detector in training form, eval mode.

    Raises:
        TrainingError: the folder holds a run with other settings, or the loss is no longer finite.
        DataError, ConfigError, UnknownModelError: settings that cannot be met; nothing has been written then.
    """
    with _deterministic(config):
        dataset = open_dataset(config.data, "train", length=config.train_length, image_size=config.image_size)
        run = _Run(config, dataset)
        _claim(out_dir, config)
        run.restore(checkpoint.load_latest(out_dir / "checkpoints"))
        last = config.steps if stop_after is None else min(stop_after, config.steps)
        with progress_bar("training", total=config.steps, start=run.step) as bar:
            _loop(run, out_dir, last, bar)
        return run.averaged.model  # type: ignore[return-value]


class _Run:
    """Everything that changes during training, so that it can be saved and restored as one."""

    def __init__(self, config: TrainConfig, dataset: DetectionDataset) -> None:
        self.config = config
        self.step = 0
        self.detector = create(
            config.arch,
            num_classes=len(dataset.class_names),
            class_names=list(dataset.class_names),
            time_steps=config.time_steps,
            levels=config.levels,
            image_size=config.image_size,
            class_agnostic=config.class_agnostic,
        )
        self.detector = self.detector.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        decode = self.detector.config.decode
        self.loss = DetectionLoss(
            decode.strides,
            decode.reg_max,
            len(dataset.class_names),
            config.box_gain,
            config.class_gain,
            config.dfl_gain,
        )
        self.batches = Batches(dataset, self.detector.config.input, batch_size=config.batch_size, seed=config.seed)
        self.averaged = AveragedModel(self.detector, config.ema_decay)
        self.optimizer = torch.optim.AdamW(parameter_groups(self.detector, config.weight_decay), lr=config.lr)

    def state(self) -> dict[str, Any]:
        """What a checkpoint holds."""
        return {
            "step": self.step,
            "model": self.detector.state_dict(),
            "averaged": self.averaged.model.state_dict(),
            "updates": self.averaged.updates,
            "optimizer": self.optimizer.state_dict(),
            "rng": torch.get_rng_state(),
        }

    def restore(self, state: dict[str, Any] | None) -> None:
        """Continue from a checkpoint."""
        if state is None:
            return
        self.step = state["step"]
        self.detector.load_state_dict(state["model"])
        self.averaged.model.load_state_dict(state["averaged"])
        self.averaged.updates = state["updates"]
        self.optimizer.load_state_dict(state["optimizer"])
        torch.set_rng_state(state["rng"])

    def advance(self) -> dict[str, float]:
        """One optimiser step; returns the loss parts and the gradient norm.

        Raises:
            TrainingError: a part of the loss, or the gradient, is not finite; the weights are those of the step before.
        """
        config = self.config
        factor = cosine_factor(self.step, steps=config.steps, warmup_steps=config.warmup_steps, final=config.final_lr)
        for group in self.optimizer.param_groups:
            group["lr"] = config.lr * factor
        images, targets = self.batches[self.step]
        self.detector.train()
        parts = self.loss(self.detector(images.contiguous(memory_format=torch.channels_last)), targets)
        self.optimizer.zero_grad(set_to_none=True)
        torch.stack(list(parts.values())).sum().backward()
        norm = nn.utils.clip_grad_norm_(self.detector.parameters(), config.clip)
        values = {name: part.item() for name, part in parts.items()} | {"grad_norm": norm.item()}
        self._require_finite(values, norm)
        self.optimizer.step()
        self.averaged.update(self.detector)
        self.step += 1
        return values | {"lr": config.lr * factor}

    def _require_finite(self, values: dict[str, float], norm: Tensor) -> None:
        wrong = [f"{name} = {value}" for name, value in values.items() if not np.isfinite(value)]
        if wrong or not torch.isfinite(norm):
            raise TrainingError(
                f"at step {self.step} the loss is no longer finite ({', '.join(wrong)}). The last checkpoint is intact: "
                "lower lr or clip, and start a new run"
            )


def _loop(run: _Run, out_dir: Path, last: int, bar: Progress) -> None:
    config, started = run.config, time.monotonic()
    while run.step < last:
        values = run.advance()
        if run.step % config.log_every == 0:
            _log(out_dir / "metrics.csv", {"step": run.step, "seconds": time.monotonic() - started, **values})
        if run.step % config.checkpoint_every == 0 or run.step == config.steps:
            checkpoint.save(out_dir / "checkpoints", run.step, run.state(), keep=config.keep)
        bar.advance(f"box {values['box']:.2f} cls {values['cls']:.2f} dfl {values['dfl']:.2f}")


def parameter_groups(model: nn.Module, weight_decay: float) -> list[dict[str, Any]]:
    """Weight decay for convolution weights; none for biases and norms."""
    decayed = [p for p in model.parameters() if p.dim() > 1]
    free = [p for p in model.parameters() if p.dim() <= 1]
    return [{"params": decayed, "weight_decay": weight_decay}, {"params": free, "weight_decay": 0.0}]


@contextmanager
def _deterministic(config: TrainConfig) -> Iterator[None]:
    """Fix every source of randomness and the number of threads; restore the number of threads afterwards."""
    threads = torch.get_num_threads()
    random.seed(config.seed)
    torch.manual_seed(config.seed)
    torch.set_num_threads(config.threads)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _claim(out_dir: Path, config: TrainConfig) -> None:
    """Make the folder of a run, or make sure that it holds an interrupted run with the same settings."""
    settings = out_dir / "train.json"
    text = config.model_dump_json(indent=2) + "\n"
    if settings.exists():
        if settings.read_text() != text:
            raise TrainingError(
                f"{out_dir} holds a run with other settings (see {settings}); choose another --out, or repeat its settings"
            )
        return
    if out_dir.exists() and any(out_dir.iterdir()):
        raise TrainingError(f"{out_dir} is not empty and holds no run of this program; choose another --out")
    (out_dir / "checkpoints").mkdir(parents=True)
    write_atomically(settings, text.encode())


def _log(path: Path, row: dict[str, float]) -> None:
    header = "" if path.exists() else ",".join(row) + "\n"
    with path.open("a") as file:
        file.write(header + ",".join(f"{value:.6g}" for value in row.values()) + "\n")
