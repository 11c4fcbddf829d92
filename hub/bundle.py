"""One model as a folder: README.md, card.json, config.json, model.safetensors, model.nir and manifest.json.

``trainable.safetensors`` (optional) holds the weights before batch norms were folded, for fine-tuning. The folder appears
under its name only when it is complete, and nothing in it is opened before its sha256 was checked.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

from zoo.cards.card import Card, Paper, make_card, parse_card
from zoo.config import ModelConfig, read_config
from zoo.errors import CheckpointError, CorruptFileError, ExportError, FileMissingError, InvalidInputError
from zoo.hub.integrity import MANIFEST, check_manifest, read_manifest, write_manifest
from zoo.hub.readme import render
from zoo.support.files import new_directory

if TYPE_CHECKING:
    import nir
    from torch import Tensor

CARD, CONFIG, GRAPH, README = "card.json", "config.json", "model.nir", "README.md"
WEIGHTS, TRAINABLE = "model.safetensors", "trainable.safetensors"


class DeployedDetector(Protocol):
    """What a bundle is made of: a fused detector."""

    config: ModelConfig
    paper: Paper | None

    def state_dict(self) -> dict[str, Tensor]:
        """Its weights by name."""
        ...

    def to_nir(self, image_size: tuple[int, int] | int | None = None) -> nir.NIRGraph:
        """Its graph."""
        ...


class _Slot(NamedTuple):
    shape: tuple[int, ...]
    dtype: str


def _card_of(detector: DeployedDetector, fields: Mapping[str, Any]) -> Card:
    config = detector.config
    known = {
        "name": config.arch,
        "arch": config.arch,
        "parameters": sum(tensor.numel() for tensor in detector.state_dict().values()),
        "time_steps": config.time_steps,
        "levels": config.levels,
        "image_size": config.input.image_size,
        "class_names": config.class_names,
        "paper": detector.paper,
    }
    return make_card(**{**known, **fields})


def write(
    directory: str | Path,
    detector: DeployedDetector,
    *,
    card_fields: Mapping[str, Any] | None = None,
    trainable_state: Mapping[str, Tensor] | None = None,
    require_graph: bool = True,
    overwrite: bool = False,
) -> Path:
    """Write a model folder.

    Args:
        directory: where; it appears only when complete.
        detector: in deployed (fused) form.
        card_fields: of :class:`zoo.cards.Card`; what the detector itself knows is filled in.
        trainable_state: state dict of the unfused detector, for ``zoo.load(..., trainable=True)``.
        require_graph: fail where the detector has no exact NIR form; otherwise the card says why there is no ``model.nir``.
        overwrite: replace a folder that is there.

    Returns:
        The directory.

    Raises:
        InvalidInputError: the detector is not fused, or the directory exists.
        ExportError: the detector has no exact NIR form.
        ConfigError: card fields that do not fit.
    """
    from zoo.nir_graphs import io

    if not detector.config.fused:
        raise InvalidInputError("a model folder holds the deployed form: call detector.fuse() first")
    fields = dict(card_fields or {})
    with new_directory(directory, overwrite=overwrite) as folder:
        try:
            io.write(detector.to_nir(), folder / GRAPH)
        except ExportError as error:
            if require_graph:
                raise
            note = f"There is no {GRAPH}: {error}"
            fields["description"] = f"{fields.get('description', '')}\n\n{note}".strip()[:4000]
        card = _card_of(detector, fields)
        (folder / CONFIG).write_text(detector.config.to_json(), encoding="utf-8")
        save_weights(folder / WEIGHTS, detector.state_dict())
        if trainable_state is not None:
            save_weights(folder / TRAINABLE, trainable_state)
        _seal(folder, card, detector.config)
    return Path(directory)


def _seal(folder: Path, card: Card, config: ModelConfig) -> None:
    (folder / CARD).write_text(card.to_json(), encoding="utf-8")
    (folder / README).write_text(render(card, config, has_graph=(folder / GRAPH).exists()), encoding="utf-8")
    write_manifest(folder)


def rewrite_card(directory: str | Path, **fields: Any) -> Card:
    """Change fields of a folder's card, for example its metrics, and renew README and manifest. Weights stay as they are.

    Raises:
        FileMissingError, CorruptFileError: the folder is not an intact model.
        ConfigError: fields that do not fit.
    """
    import shutil

    directory = Path(directory)
    manifest = check_manifest(directory)
    card = make_card(**{**read_card_of(directory).model_dump(exclude={"files"}), **fields})
    with new_directory(directory, overwrite=True) as folder:
        for name in manifest.files:
            shutil.copyfile(directory / name, folder / name)
        _seal(folder, card, read_config(folder / CONFIG))
    return card


def read_card_of(directory: Path) -> Card:
    """The card of a model folder, with the sizes of its files.

    Raises:
        FileMissingError, CorruptFileError, ConfigError: missing or damaged.
    """
    manifest = check_manifest(directory, [CARD])
    card = parse_card((directory / CARD).read_bytes(), source=str(directory / CARD))
    return card.model_copy(update={"files": {name: entry.size for name, entry in manifest.files.items()}})


def read_config_of(directory: Path) -> ModelConfig:
    """The configuration of a model folder.

    Raises:
        FileMissingError, CorruptFileError, ConfigError: missing or damaged.
    """
    check_manifest(directory, [CONFIG])
    return read_config(directory / CONFIG)


def read_graph_of(directory: Path, *, trusted: bool = False) -> nir.NIRGraph:
    """The NIR graph of a model folder.

    Args:
        directory: the model folder.
        trusted: somebody vouches for its manifest; otherwise the file is parsed in a process of its own.

    Raises:
        FileMissingError, CorruptFileError: missing or damaged.
    """
    from zoo.nir_graphs import io, untrusted

    check_manifest(directory, [GRAPH])
    return (io if trusted else untrusted).read(directory / GRAPH)


def read_weights_of(
    directory: Path, expected: Mapping[str, Tensor], *, trainable: bool = False, prefix: str = ""
) -> dict[str, Tensor]:
    """The weights of a model folder, which must fit exactly.

    Args:
        directory: the model folder.
        expected: state dict whose keys, shapes and types the file must have.
        trainable: the weights before folding instead of the deployed ones.
        prefix: read only the weights whose names begin so.

    Raises:
        FileMissingError: no such file.
        CorruptFileError: damaged.
        CheckpointError: other keys, shapes or types.
    """
    name = TRAINABLE if trainable else WEIGHTS
    if trainable and TRAINABLE not in read_manifest(directory).files:
        raise FileMissingError(f"{directory} holds the deployed weights only: it has no {TRAINABLE}")
    check_manifest(directory, [name])
    return load_weights(directory / name, expected, prefix=prefix)


def save_weights(path: Path, state: Mapping[str, Tensor]) -> None:
    """Write a state dict as safetensors, byte for byte reproducible."""
    from safetensors.torch import save_file

    tensors = {key: tensor.detach().cpu().contiguous() for key, tensor in sorted(state.items())}
    save_file(tensors, path, metadata={"format": "pt"})  # more keys would come in random order


def load_weights(path: Path, expected: Mapping[str, Tensor], *, prefix: str = "") -> dict[str, Tensor]:
    """Read safetensors that must have exactly the keys, shapes and types of ``expected``; of those with a prefix only.

    Raises:
        FileMissingError: no such file.
        CorruptFileError: not safetensors.
        CheckpointError: other keys, shapes or types, or numbers that are not finite.
    """
    from safetensors import SafetensorError, safe_open

    if not path.is_file():
        raise FileMissingError(f"there are no weights {path}")
    try:
        with safe_open(path, framework="pt") as file:
            keys = [key for key in file.keys() if key.startswith(prefix)]  # noqa: SIM118
            found = {key: _Slot(tuple((s := file.get_slice(key)).get_shape()), s.get_dtype()) for key in keys}
            _check_slots(found, expected, path)
            state = {key: file.get_tensor(key) for key in keys}
    except SafetensorError as error:
        raise CorruptFileError(f"{path} is not a valid safetensors file: {error}") from None
    for key, tensor in state.items():
        if tensor.is_floating_point() and not _is_finite(tensor):
            raise CheckpointError(f"{path}: {key} holds numbers that are not finite")
    return state


def _is_finite(tensor: Tensor) -> bool:
    """Whether all numbers are finite; in one pass, without a mask of the tensor's size."""
    return tensor.numel() == 0 or all(bool(extreme.isfinite()) for extreme in tensor.aminmax())


def _check_slots(found: Mapping[str, _Slot], expected: Mapping[str, Tensor], path: Path) -> None:
    missing, unknown = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or unknown:
        parts = [f"{len(keys)} {what} ({', '.join(keys[:3])})" for what, keys in
                 (("missing", missing), ("unknown", unknown)) if keys]  # fmt: skip
        raise CheckpointError(f"{path} does not fit the architecture: {' and '.join(parts)} tensors")
    for key, tensor in expected.items():
        if found[key].shape != tuple(tensor.shape):
            raise CheckpointError(f"{path}: {key} has shape {found[key].shape}, the architecture {tuple(tensor.shape)}")
        if found[key].dtype != _DTYPES.get(str(tensor.dtype)):
            raise CheckpointError(f"{path}: {key} has type {found[key].dtype}, the architecture {tensor.dtype}")


_DTYPES = {
    "torch.float64": "F64",
    "torch.float32": "F32",
    "torch.float16": "F16",
    "torch.bfloat16": "BF16",
    "torch.int64": "I64",
    "torch.int32": "I32",
    "torch.uint8": "U8",
    "torch.int8": "I8",
    "torch.bool": "BOOL",
}

__all__ = [
    "CARD",
    "CONFIG",
    "GRAPH",
    "MANIFEST",
    "README",
    "TRAINABLE",
    "WEIGHTS",
    "DeployedDetector",
    "load_weights",
    "read_card_of",
    "read_config_of",
    "read_graph_of",
    "read_manifest",
    "read_weights_of",
    "rewrite_card",
    "save_weights",
    "write",
]
