"""Training settings are checked."""

from __future__ import annotations

from typing import Any

import pytest

from zoo.errors import ConfigError
from zoo.training.config import make_train_config, parse_train_config


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("steps", 0),
        ("steps", "100"),
        ("steps", 1.5),
        ("batch_size", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("lr", float("inf")),
        ("ema_decay", 1.0),
        ("final_lr", 1.1),
        ("seed", -1),
        ("seed", 2**32),
        ("levels", 256),
        ("threads", 0),
        ("keep", 0),
        ("device", "gpu please"),
        ("learning_rate", 1e-3),
    ],
)
def test_bad_values_name_their_field(field: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=field):
        make_train_config(arch="spikeyolo-pico", **{field: value})


def test_arch_is_required() -> None:
    with pytest.raises(ConfigError, match="arch"):
        make_train_config()


def test_settings_survive_json() -> None:
    config = make_train_config(arch="spikeyolo-pico", lr=1e-3, image_size=64, validate_every=5)
    assert parse_train_config(config.model_dump_json(), source="x") == config


def test_settings_of_an_older_version_take_defaults() -> None:
    assert parse_train_config('{"arch": "spikeyolo-n"}', source="x") == make_train_config(arch="spikeyolo-n")


@pytest.mark.parametrize("text", ["", "{", "[]", '{"arch": 1}', '{"arch": "a", "b": 1}'])
def test_damaged_settings_name_their_file(text: str) -> None:
    with pytest.raises(ConfigError, match=r"train\.json"):
        parse_train_config(text, source="train.json")
