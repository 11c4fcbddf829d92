"""Training in snnTorch: settings, checkpoints, fine-tuning and the loop.

from zoo.training import make_train_config, train_model
train_model(make_train_config(arch="spikeyolo-pico", data="digits"), "runs/digits")
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from zoo.training.config import TrainConfig, make_train_config

if TYPE_CHECKING:
    from zoo.training.loop import train
    from zoo.training.product import train_model

__all__ = ["TrainConfig", "make_train_config", "train", "train_model"]


def __getattr__(name: str) -> Any:
    # the command line reads the settings of every verb: it must not wait for torch
    if name == "train":
        from zoo.training.loop import train

        return train
    if name == "train_model":
        from zoo.training.product import train_model

        return train_model
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
