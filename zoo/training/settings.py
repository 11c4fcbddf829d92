"""Training settings as people write them: YAML files and ``KEY=VALUE``, merged by precedence."""

from __future__ import annotations

import re
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from zoo.errors import ConfigError, FileMissingError
from zoo.training.config import TrainConfig, setting_of, type_of, unknown_setting

LARGEST_FILE = 2**20
_FLOAT = re.compile(r"^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$")


class _Loader(yaml.SafeLoader):
    """Plain data of YAML 1.2: ``1e-3`` is a number, ``no`` and ``on`` are words, and no key comes twice."""

    yaml_implicit_resolvers = {  # noqa: RUF012 - PyYAML's own form
        first: [(tag, pattern) for tag, pattern in pairs if tag == "tag:yaml.org,2002:null"]
        for first, pairs in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        keys = [key.value for key, _ in node.value]
        if twice := sorted({str(key) for key in keys if keys.count(key) > 1}):
            raise yaml.constructor.ConstructorError(None, None, f"{twice[0]} is given twice", node.start_mark)
        return super().construct_mapping(node, deep)

    def construct_decimal(self, node: yaml.ScalarNode) -> int:
        """``010`` is ten."""
        return int(node.value)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_decimal)
_Loader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(r"^[-+]?\d+$"), list("-+0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:float", _FLOAT, list("-+.0123456789"))
_Loader.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile(r"^(true|false)$", re.IGNORECASE), list("tTfF"))


def field_of(key: str) -> str:
    """The field that a key of a file or of ``KEY=VALUE`` means: its name or its option's, with ``-`` or ``_``.

    Raises:
        ConfigError: there is none; the message names close ones.
    """
    plain = key.strip().removeprefix("--").replace("-", "_")
    for name in TrainConfig.model_fields:
        if plain in {name, *(flag.removeprefix("--").replace("-", "_") for flag in setting_of(name).flags)}:
            return name
    raise ConfigError(unknown_setting(plain))


def read_settings(path: Path) -> dict[str, Any]:
    """Fields from a YAML (or JSON) file.

    Raises:
        FileMissingError: it cannot be read.
        ConfigError: not a mapping, or a key that is no setting.
    """
    try:
        with path.open("rb") as file:
            text = file.read(LARGEST_FILE + 1)
    except OSError as error:
        raise FileMissingError(f"cannot read the settings {path}: {error.strerror}") from None
    if len(text) > LARGEST_FILE:
        raise ConfigError(f"{path} is larger than {LARGEST_FILE} bytes: it does not hold training settings")
    content = _parse(text, str(path))
    if not isinstance(content, dict):
        raise ConfigError(
            f"{path} does not hold training settings: write one setting on each line, for example 'lr: 1e-3'"
        )
    fields: dict[str, Any] = {}
    for key, value in content.items():
        try:
            name = field_of(str(key))
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from None
        if name in fields:
            raise ConfigError(f"{path} gives {name} twice")
        fields[name] = value
    return fields


def parse_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """``["lr=1e-3", "variant.ts=3"]`` as fields.

    Raises:
        ConfigError: not KEY=VALUE, a key that is no setting, or one that is given twice.
    """
    fields: dict[str, Any] = {}
    for text in texts:
        key, separator, value = text.partition("=")
        if not (key and separator):
            raise ConfigError(f"settings are given as KEY=VALUE, for example lr=1e-3, not {text!r}")
        outer, _, inner = key.partition(".")
        field = field_of(outer)
        # a folder called 2012 is no number
        read = value if type_of(field) is str and value != "null" else parse_value(value)
        merge(fields, {field: {inner: read} if inner else read}, what=text)
    return fields


def parse_value(text: str) -> Any:
    """A number, truth value, list or mapping where the text is one in YAML, and otherwise the text."""
    try:
        return _parse(text.encode(errors="surrogateescape"), text) if text else ""
    except ConfigError:
        return text


def merge(fields: dict[str, Any], more: Mapping[str, Any], *, what: str) -> None:
    """Add settings that stand beside those that are there already; settings that are mappings are joined.

    Raises:
        ConfigError: one of them is there already.
    """
    for name, value in more.items():
        there = fields.get(name)
        if isinstance(there, dict) and isinstance(value, dict) and not there.keys() & value.keys():
            fields[name] = there | value
        elif name in fields:
            raise ConfigError(f"{name} is given twice, the second time by {what}")
        else:
            fields[name] = value


def override(fields: Mapping[str, Any], stronger: Mapping[str, Any]) -> dict[str, Any]:
    """Settings of a file with those of the command line in their place; settings that are mappings entry by entry."""
    joined = {**fields, **stronger}
    for name, outer in stronger.items():
        inner = fields.get(name)
        if isinstance(inner, dict) and isinstance(outer, dict):
            joined[name] = inner | outer
    return joined


def _parse(text: bytes, source: str) -> Any:
    try:
        return yaml.load(text, _Loader)  # noqa: S506 - it is a SafeLoader
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError, ValueError) as error:
        raise ConfigError(f"{source} is not valid YAML: {' '.join(str(error).split())}") from None
