"""Settings as people write them: YAML, KEY=VALUE, and unknown keys with close names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zoo.errors import ConfigError, FileMissingError
from zoo.training.config import TrainConfig, fields_of, make_train_config, setting_of, type_of
from zoo.training.settings import override, parse_overrides, parse_value, read_settings


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-3", 0.001),
        ("3", 3),
        ("010", 10),
        ("-1.5", -1.5),
        ("true", True),
        ("False", False),
        ("no", "no"),
        ("off", "off"),
        ("null", None),
        ("train2017", "train2017"),
        ("12:30", "12:30"),
        ("2026-01-01", "2026-01-01"),
        ("[1, 2]", [1, 2]),
        ("a: b: c", "a: b: c"),
        ("!!python/name:os.system", "!!python/name:os.system"),
        ("", ""),
    ],
)
def test_values_read_as_yaml_1_2(text: str, value: object) -> None:
    found = parse_value(text)
    assert found == value
    assert type(found) is type(value)


def test_overrides_take_names_of_fields_and_of_options() -> None:
    found = parse_overrides(["lr=1e-3", "batch-size=4", "from=a=b", "variant.ts=3", "set.sampler=fixed", "data=2012"])
    assert found == {
        "lr": 0.001,
        "batch_size": 4,
        "start": "a=b",
        "variant": {"ts": 3, "sampler": "fixed"},
        "data": "2012",
    }


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["lr"], "KEY=VALUE"),
        (["=1"], "KEY=VALUE"),
        (["stepz=1"], "did you mean steps"),
        (["batchsize=1"], "did you mean batch_size"),
        (["learning_rate=1"], "did you mean lr"),
        (["imgsz=640"], "did you mean image_size"),
        (["epochs=3"], "steps = epochs"),
        (["colour=red"], "--help` lists them"),
        (["lr=1", "lr=2"], "lr is given twice"),
        (["variant.ts=1", "variant.ts=2"], "variant is given twice"),
    ],
)
def test_wrong_overrides_say_what_to_do(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        parse_overrides(texts)


def test_a_file_of_settings(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text("lr: 1e-3  # peak\nbatch-size: 8\nfrom: my/model\nset: {ts: 3, tm: 4}\nclass_agnostic: true\n")
    fields = read_settings(path)
    assert fields == {
        "lr": 0.001, "batch_size": 8, "start": "my/model", "variant": {"ts": 3, "tm": 4}, "class_agnostic": True,
    }  # fmt: skip
    assert make_train_config(arch="eas-snn-pico", **fields).lr == 0.001
    joined = override(fields, {"lr": 0.1, "variant": {"ts": 5}})
    assert joined["lr"] == 0.1
    assert joined["variant"] == {"ts": 5, "tm": 4}
    assert joined["batch_size"] == 8


def test_settings_of_a_run_are_a_file_of_settings(tmp_path: Path) -> None:
    """``train.json`` of a run can be given to --config."""
    config = make_train_config(arch="eas-snn-pico", lr=1e-5, variant={"ts": 3}, class_agnostic=False)
    path = tmp_path / "train.json"
    path.write_text(config.model_dump_json(indent=2))
    assert make_train_config(**read_settings(path)) == config


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr: 1\nlr: 2\n", "lr is given twice"),
        ("lr: 1\nbatch-size: 2\nbatch_size: 3\n", "batch_size twice"),
        ("learning_rate: 1\n", r"recipe\.yaml: .*did you mean lr"),
        ("- lr\n", "one setting on each line"),
        ("", "one setting on each line"),
        ("lr: [1\n", "not valid YAML"),
        ("a: !!python/object/apply:os.system [true]\n", "not valid YAML"),
        ("\x00", "not valid YAML"),
    ],
)
def test_wrong_files_are_named(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=message):
        read_settings(path)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(FileMissingError, match="cannot read the settings"):
        read_settings(tmp_path / "nothing.yaml")
    with pytest.raises(FileMissingError, match="cannot read the settings"):
        read_settings(tmp_path)
    big = tmp_path / "big.yaml"
    big.write_bytes(b"#" * (2**20 + 1))
    with pytest.raises(ConfigError, match="larger than"):
        read_settings(big)


def test_every_field_says_what_it_is() -> None:
    """The command line is made of this: a sentence of help, a kind and a type for each."""
    for name, field in TrainConfig.model_fields.items():
        assert setting_of(name).kind in {"recipe", "run"}
        assert field.description is not None
        assert field.description[0].isupper()
        assert field.description.endswith(".")
        assert type_of(name) in {int, float, bool, str, dict}
    assert {"workers", "log_every", "keep", "device", "threads", "checkpoint_every", "name", "data"} <= set(
        fields_of("run")
    )
    assert {"lr", "steps", "seed", "arch", "levels", "split", "start", "train_length"} <= set(fields_of("recipe"))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("name", "My_Model", "for example 'my-model'"),
        ("name", "a b", "for example 'a-b'"),
        ("name", "数据", "for example 'my-model'"),
        ("data", "\udcff", "not valid Unicode"),
    ],
)
def test_names_that_cannot_be_suggest_one_that_can(field: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_train_config(arch="spikeyolo-pico", **{field: value})
