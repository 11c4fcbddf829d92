"""From a trained model folder to a quantised one: calibration, fine-tuning where it is asked for, certificate."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import Tensor

from zoo.cards.card import Card
from zoo.compression import quantization
from zoo.data import open_dataset
from zoo.detectors.detector import Detector
from zoo.errors import InvalidInputError
from zoo.hub import bundle
from zoo.loading import load_trainable
from zoo.nir_graphs.certificate import Certificate, certify
from zoo.support.provenance import origin

COPIED = ("name", "arch", "dataset", "paper", "licence", "data_licence")


def quantize_model(
    name: str | Path,
    out_dir: str | Path,
    *,
    bits: int = 8,
    per: str = "layer",
    calibration: int = 32,
    data: str | None = None,
    steps: int = 0,
    batch_size: int = 16,
    lr: float = 1e-4,
    seed: int = 0,
    overwrite: bool = False,
) -> tuple[Path, Certificate]:
    """Quantise a model that holds trainable weights, and write it as a model folder.

    Args:
        name: a name or model folder.
        out_dir: the new model folder.
        bits: of a weight, 4..16.
        per: ``layer`` or ``channel``.
        calibration: training pictures that choose the grids; 0 chooses by the weights alone.
        data: data set; by default the one that the model was trained on.
        steps: of straight-through fine-tuning with the normal training loop, in the folder ``OUT.run``, where it can be
            continued when interrupted; 0 for none.
        batch_size, lr: of fine-tuning.
        seed: of the training pictures.
        overwrite: replace a folder that is there.

    Returns:
        The model folder, and what is proved of it in float32.

    Raises:
        UnknownModelError, FileMissingError, CorruptFileError: no such model, or one without trainable weights.
        InvalidInputError: settings out of bounds, a folder that is there, data that nobody has named.
    """
    if Path(out_dir).exists() and not overwrite:
        raise InvalidInputError(f"{out_dir} exists already; choose another folder or --overwrite")
    detector = load_trainable(name)
    card = detector.card
    source = data or ("" if card is None else card.dataset)
    if (calibration or steps) and not source:
        raise InvalidInputError(f"{name} does not say what it was trained on: choose a data set with --data")
    pictures = calibration_pictures(source, detector, calibration, seed) if calibration else None
    made: dict[str, Any] = {"bits": bits, "per": per, "calibration": pictures}
    if steps:
        tuned = fine_tune(
            detector, run_folder(out_dir), source, steps=steps, batch_size=batch_size, lr=lr, seed=seed, **made
        )
        out = quantization.finish(tuned)
    else:
        out = quantization.quantize(detector, **made)
    found = certify(out.to_nir())
    fields = _fields(card, out, found, steps=steps, calibration=calibration)
    state = {key: tensor.detach() for key, tensor in detector.state_dict().items()}
    return bundle.write(out_dir, out, card_fields=fields, trainable_state=state, overwrite=overwrite), found


def run_folder(out_dir: str | Path) -> Path:
    """Where the fine-tuning of a model that will lie in ``out_dir`` keeps its checkpoints."""
    return Path(out_dir).with_name(Path(out_dir).name + ".run")


def fine_tune(
    detector: Detector,
    run: Path,
    data: str,
    *,
    bits: int,
    per: str,
    calibration: Tensor | None,
    steps: int,
    batch_size: int,
    lr: float,
    seed: int = 0,
) -> Detector:
    """Straight-through fine-tuning of a trainable detector with the normal training loop; see :mod:`zoo.training.loop`.

    Returns:
        The averaged detector, for :func:`zoo.compression.quantization.finish`.
    """
    from zoo.training.config import make_train_config
    from zoo.training.loop import train

    start = quantization.straight_through(detector, bits=bits, per=per, calibration=calibration)  # type: ignore[arg-type]
    config = detector.config
    settings = make_train_config(
        arch=config.arch, data=data, steps=steps, batch_size=batch_size, lr=lr, seed=seed, time_steps=config.time_steps,
        levels=config.levels, image_size=_side(config.input.image_size), class_agnostic=config.decode.class_agnostic,
        warmup_steps=min(100, steps // 10),
    )  # fmt: skip
    return train(settings, run, start=start)


def _side(size: tuple[int, int]) -> int | None:
    """Of a square input; what is not square comes from the detector itself."""
    return size[0] if size[0] == size[1] else None


def calibration_pictures(data: str, detector: Detector, count: int, seed: int) -> Tensor:
    """(count, C, H, W) of the training split; micro-slices (Tm, count, 2, H, W) for event detectors."""
    from zoo.data.sample import prepare_sample, stack_inputs

    spec = detector.config.input
    dataset = open_dataset(data, "train", length=count, seed=seed, image_size=spec.image_size[0], spec=spec)
    return stack_inputs([prepare_sample(dataset[i], spec)[0] for i in range(min(count, len(dataset)))])


def _fields(
    card: Card | None, detector: Detector, found: Certificate, *, steps: int, calibration: int
) -> dict[str, Any]:
    settings = detector.config.quantization
    assert settings is not None  # noqa: S101 - it was quantised just now
    known = {} if card is None else {key: value for key in COPIED if (value := getattr(card, key))}
    how = f"Quantised to weights of {settings.bits} bits on one power-of-two grid per {settings.per}"
    how += f", calibrated on {calibration} training pictures" if calibration else ""
    how += f", fine-tuned straight-through for {steps} steps" if steps else ""
    told = "" if card is None else card.description
    return {
        **known,
        "description": f"{told} {how}; {found.summary()}. The weights before quantisation are trainable.safetensors.".strip(),
        "provenance": {**origin(), "source": source_of(card)},
    }


def source_of(card: Card | None) -> str:
    """How the weights before were made, as far as their card says so."""
    if card is None or not card.provenance.command:
        return ""
    return f"float weights made by {card.provenance.command} at commit {card.provenance.commit} on {card.provenance.machine}"
