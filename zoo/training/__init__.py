"""Training in snnTorch: assignment, losses, schedule, checkpoints and the loop.

from zoo.training import make_train_config, train_model
train_model(make_train_config(arch="spikeyolo-pico", data="digits"), "runs/digits")
"""

from __future__ import annotations

from zoo.training.config import TrainConfig, make_train_config
from zoo.training.loop import train
from zoo.training.product import train_model

__all__ = ["TrainConfig", "make_train_config", "train", "train_model"]
