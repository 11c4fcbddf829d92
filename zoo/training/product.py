"""From a finished run to a model folder."""

from __future__ import annotations

from pathlib import Path

from zoo.detectors.detector import Detector
from zoo.hub import bundle
from zoo.support.provenance import origin
from zoo.training.config import TrainConfig
from zoo.training.loop import train

MODEL = "model"


def train_model(
    config: TrainConfig, out_dir: str | Path, *, name: str | None = None, start: Detector | None = None
) -> Path:
    """Train a detector, or finish an interrupted run, and write its deployed form to ``out_dir/model``.

    Args:
        config: settings.
        out_dir: folder of the run.
        name: of the model; by default architecture and data set.
        start: go on from this detector, in training form, instead of random weights.

    Returns:
        The model folder. One that is there already is left as it is: the run is finished.

    Raises:
        ZooError: see :func:`zoo.training.loop.train` and :func:`zoo.hub.bundle.write`.
    """
    folder = Path(out_dir) / MODEL
    detector = train(config, out_dir, start=start)
    if folder.exists():
        return folder
    data = Path(config.data).name
    fields = {
        "name": name or f"{config.arch}-{data}".lower(),
        "dataset": data if config.data == "digits" else config.data,
        "description": (
            f"Trained from {_origin(start)} on {config.data}: {config.steps} steps of {config.batch_size} "
            f"{'clips' if detector.config.input.events else 'pictures'}, seed {config.seed}."
        ),
        "provenance": origin(),
    }
    # an ANN that is still to be converted has no graph
    is_ann = not getattr(detector.network, "spiking", True)
    return bundle.write(
        folder, detector.fuse(), card_fields=fields, trainable_state=detector.state_dict(), require_graph=not is_ann
    )


def _origin(start: Detector | None) -> str:
    if start is None:
        return "random weights"
    if start.card is None:
        return "other weights"
    made = start.card.provenance
    return f"the weights made by {made.command} (commit {made.commit[:12]})"
