"""Claims of the papers, measured again: numbers and a figure, also where a claim does not hold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zoo.compression.conversion import PERCENTILE, convert
from zoo.compression.quantized_bundle import calibration_pictures
from zoo.data import open_dataset
from zoo.data.sample import DetectionDataset
from zoo.detectors.detector import Detector
from zoo.detectors.spiking_yolo.model import SpikingYOLO
from zoo.errors import InvalidInputError
from zoo.evaluation import evaluate
from zoo.evaluation.coco_metrics import evaluate_over_time
from zoo.loading import load_trainable
from zoo.support.progress import progress_bar

KEPT = 0.98
"""Share of the ANN's mAP50 of which the first T is reported."""
READOUTS = (2, 4, 8, 16, 32, 64, 128, 256)
CALIBRATION = 64


@dataclass(frozen=True)
class Curve:
    """mAP50 of a converted network against T.

    Attributes:
        model: the ANN.
        normalisation: ``channel`` or ``layer``.
        neuron: ``signed`` (imbalanced threshold) or ``clipping`` (negative activations are lost).
        images: test pictures.
        ann: mAP50 of the ANN on the same pictures.
        points: (T, mAP50).
    """

    model: str
    normalisation: str
    neuron: str
    images: int
    ann: float
    points: tuple[tuple[int, float], ...]

    @property
    def first(self) -> int | None:
        """First T that keeps 98 % of the ANN's mAP50; None where none does."""
        return next((steps for steps, value in self.points if value >= KEPT * self.ann), None)

    def rows(self) -> list[dict[str, object]]:
        """One row per T."""
        common = {
            "claim": "conversion",
            "model": self.model,
            "normalisation": self.normalisation,
            "neuron": self.neuron,
        }
        return [
            {
                **common,
                "time_steps": steps,
                "images": self.images,
                "mAP50": value,
                "ann_mAP50": self.ann,
                "share": value / self.ann if self.ann else 0.0,
                "first_T_with_98_percent": self.first or "none",
            }
            for steps, value in self.points
        ]


def conversion_curve(
    name: str,
    ann: Detector,
    dataset: DetectionDataset,
    readouts: Sequence[int],
    *,
    normalisation: str,
    signed: bool,
    data: str,
) -> Curve:
    """Convert an ANN in one way and measure it against T."""
    pictures = calibration_pictures(data, ann, CALIBRATION, 0)
    made: dict[str, Any] = {"normalisation": normalisation, "signed": signed, "percentile": PERCENTILE}
    snn = convert(ann, pictures, time_steps=max(readouts), **made)
    whole = evaluate(ann, dataset)
    with progress_bar(f"{name}, {normalisation}-wise", total=len(dataset)) as bar:
        found = evaluate_over_time(snn, dataset, readouts, progress=bar)
    points = tuple((steps, found[steps].map50) for steps in sorted(found))
    neuron = "signed" if signed else "clipping"
    return Curve(name, normalisation, neuron, len(dataset), whole.map50, points)


def measure_conversion(
    names: Sequence[str], *, images: int = 500, readouts: Sequence[int] = READOUTS, data: str = "digits"
) -> list[Curve]:
    """Channel-wise against layer-wise normalisation; for LeakyReLU, signed neurons against clipping.

    Args:
        names: names or model folders that hold trainable ANNs.
        images: test pictures.
        readouts: numbers of steps.
        data: data set.

    Raises:
        InvalidInputError: a model that is no ANN before conversion.
    """
    dataset = open_dataset(data, "test", length=images)
    curves = []
    for name in names:
        ann = load_trainable(name)
        if not isinstance(ann.network, SpikingYOLO):
            raise InvalidInputError(f"{name} is no ANN that is converted to spikes")
        ways = [("channel", True), ("layer", True)]
        if ann.network.numbers.activation == "leaky":
            ways.append(("channel", False))
        label = ann.card.name if ann.card is not None else str(name)
        curves += [
            conversion_curve(label, ann, dataset, readouts, normalisation=normalisation, signed=signed, data=data)
            for normalisation, signed in ways
        ]
    return curves


def draw_conversion(curves: Sequence[Curve], path: str | Path) -> Path:
    """Share of the ANN's mAP50 against T, as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    from zoo.support.files import replace_atomically

    figure = Figure(figsize=(7, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    axis = figure.subplots()
    for curve in curves:
        steps, values = zip(*curve.points, strict=True)
        label = f"{curve.model}, {curve.normalisation}-wise" + (", clipping" if curve.neuron == "clipping" else "")
        axis.plot(steps, [value / curve.ann for value in values], "o-", markersize=3, label=label)
    axis.axhline(KEPT, color="grey", linewidth=0.8, linestyle="--", label=f"{KEPT:.0%} of the ANN")
    axis.set_xscale("log", base=2)
    axis.set_xlabel("time steps T")
    axis.set_ylabel("share of the ANN's mAP50")
    axis.set_title(f"ANN-to-SNN conversion, {curves[0].images} test pictures", fontsize=10)
    axis.grid(alpha=0.3)
    axis.legend(fontsize=8)
    with replace_atomically(Path(path)) as temporary:
        figure.savefig(temporary, format="png", dpi=130)
    return Path(path)
