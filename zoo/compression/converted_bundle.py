"""From a trained ANN's model folder to a converted one."""

from __future__ import annotations

from pathlib import Path

from zoo.compression.conversion import PERCENTILE, convert
from zoo.compression.quantized_bundle import COPIED, calibration_pictures, source_of
from zoo.errors import InvalidInputError
from zoo.hub import bundle
from zoo.loading import load_trainable
from zoo.support.provenance import origin


def convert_model(
    name: str | Path,
    out_dir: str | Path,
    *,
    time_steps: int = 64,
    normalisation: str = "channel",
    percentile: float = PERCENTILE,
    calibration: int = 64,
    data: str | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> Path:
    """Convert a trained ANN to spikes, and write it as a model folder that keeps the ANN's weights as trainable ones.

    Args:
        name: a name or model folder with trainable weights.
        out_dir: the new model folder.
        time_steps: T.
        normalisation, percentile: see :func:`zoo.compression.conversion.convert`.
        calibration: training pictures on which activations are measured.
        data: data set; by default the one that the model was trained on.
        seed: of the training pictures.
        overwrite: replace a folder that is there.

    Raises:
        UnknownModelError, FileMissingError, CorruptFileError: no such model.
        InvalidInputError: no ANN that can be converted, no calibration data, a folder that is there.
    """
    if Path(out_dir).exists() and not overwrite:
        raise InvalidInputError(f"{out_dir} exists already; choose another folder or --overwrite")
    ann = load_trainable(name)
    source = data or ("" if ann.card is None else ann.card.dataset)
    if calibration < 1 or not source:
        raise InvalidInputError(
            "conversion needs calibration data: at least one training picture, and a data set (--data) where the model "
            "does not say what it was trained on"
        )
    pictures = calibration_pictures(source, ann, calibration, seed)
    snn = convert(ann, pictures, time_steps=time_steps, normalisation=normalisation, percentile=percentile)  # type: ignore[arg-type]
    known = {} if ann.card is None else {key: value for key in COPIED if (value := getattr(ann.card, key))}
    told = "" if ann.card is None else ann.card.description
    fields = {
        **known,
        "description": (
            f"{told} Converted to spikes: {normalisation}-wise normalisation at the {percentile:g}th percentile of activations "
            f"on {calibration} training pictures, T = {time_steps}. The ANN's weights are trainable.safetensors."
        ).strip(),
        "provenance": {**origin(), "source": source_of(ann.card)},
    }
    state = {key: tensor.detach() for key, tensor in ann.state_dict().items()}
    return bundle.write(out_dir, snn, card_fields=fields, trainable_state=state, overwrite=overwrite)
