"""``card.json`` as checked data."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from zoo.errors import ConfigError, FileMissingError

Text = Annotated[str, Field(max_length=4000)]
Count = Annotated[int, Field(ge=0)]
ModelName = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]{0,99}$")]


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Paper(_Strict):
    """The publication that introduced the architecture."""

    title: Text
    authors: Text = ""
    venue: Text = ""
    url: Text = ""


class Provenance(_Strict):
    """Where the weights come from.

    Attributes:
        command: what made them.
        commit: of this repository, at that time.
        date: ISO 8601, in UTC.
        machine: on which it ran.
        source: a checkpoint that they were converted from.
    """

    command: Text = ""
    commit: Text = ""
    date: Text = ""
    machine: Text = ""
    source: Text = ""


class Metric(_Strict):
    """One measured number.

    Attributes:
        name: for example ``mAP50-95``, in 0..1.
        value: the number.
        dataset, split: what it was measured on.
        images: how many.
        conditions: the convention: thresholds, evaluator, backend.
        source: the file in ``results/`` whose row says by which command, at which commit and where it was measured.
    """

    name: Text
    value: float
    dataset: Text
    split: Text = ""
    images: Count = 0
    conditions: Text = ""
    source: Text = ""


class HubPin(_Strict):
    """Where on the Hub the weights lie, and what they are.

    Attributes:
        repo: ``organisation/name``.
        commit: 40 hexadecimal digits: it never changes, and costs no request once it is in the cache.
        manifest: sha256 of the repository's ``manifest.json``, which covers all its files.
    """

    repo: Annotated[str, Field(pattern=r"^[A-Za-z0-9][\w.-]{0,95}/[A-Za-z0-9][\w.-]{0,95}$")]
    commit: Annotated[str, Field(pattern=r"^[0-9a-f]{40}$")]
    manifest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Activity(_Strict):
    """What one picture (or clip) costs, counted on the exported graph.

    Attributes:
        spike_rate: spikes per neuron and time step, over all neurons of the graph.
        dense_macs: multiply-accumulates if every synapse were active in every time step.
        effective_acs: additions of weights that are not zero, for spikes that arrive (NeuroBench's effective ACs).
        effective_macs: products of weights and inputs that are neither zero nor spikes (NeuroBench's effective MACs).
        images: pictures that this is the mean of.
        conditions: the convention.
        source: the file in ``results/``.
    """

    spike_rate: float
    dense_macs: float
    effective_acs: float
    effective_macs: float
    images: Count
    conditions: Text = ""
    source: Text = ""


class Equivalence(_Strict):
    """One framework against the numpy reference.

    Attributes:
        backend: its name; ``module`` is the snnTorch definition.
        version: of the framework's package.
        dtype: of its arithmetic.
        images: compared.
        spikes: fired by the reference.
        mismatches: places and steps where exactly one of the two fired.
        head_error: largest difference of a head output, over the reference's largest absolute value.
        source: the file in ``results/``.
    """

    backend: Text
    version: Text = ""
    dtype: Text
    images: Count
    spikes: Count
    mismatches: Count
    head_error: float
    source: Text = ""


class Certified(_Strict):
    """Whether float32 never rounds, see ``zoo certify``.

    Attributes:
        dtype: that the proof is for.
        certified: whether it succeeded.
        bits: of the mantissa that the largest sum takes.
        margin: least distance of a threshold from any potential, in grid units.
        source: the file in ``results/``.
    """

    dtype: Text
    certified: bool
    bits: float = 0.0
    margin: float = 0.0
    source: Text = ""


class Card(_Strict):
    """What one named model is.

    Attributes:
        name: what ``zoo.load`` takes.
        arch: what ``zoo.create`` takes.
        dataset: it was trained on; a name that says coco is only ever used for weights trained on COCO.
        task: what it does.
        description: one or two sentences.
        paper: of the architecture.
        licence: of the weights, an SPDX identifier.
        data_licence: of the training data.
        provenance: where the weights come from.
        metrics: what was measured with these weights.
        paper_metrics: what the paper or its authors report of theirs; never measured here.
        activity: spikes and operations per picture.
        equivalence: frameworks that were compared spike by spike.
        certificate: whether float32 is exact.
        parameters: number of weights in deployed form.
        time_steps: T.
        levels: D.
        image_size: (height, width) in pixels.
        class_names: in the order of the class logits.
        available: whether there are weights; if not, ``how_to_get`` says what to do.
        how_to_get: for models without published weights.
        hub: in the index only: where the weights lie.
        files: sizes in bytes by file name, filled in when the card is read from beside its model.
    """

    format: Literal[1] = 1
    name: ModelName
    arch: ModelName
    dataset: Text = ""
    task: Literal["object-detection"] = "object-detection"
    description: Text = ""
    paper: Paper | None = None
    licence: Text = ""
    data_licence: Text = ""
    provenance: Provenance = Provenance()
    metrics: Annotated[tuple[Metric, ...], Field(strict=False, max_length=100)] = ()
    paper_metrics: Annotated[tuple[Metric, ...], Field(strict=False, max_length=100)] = ()
    activity: Activity | None = None
    equivalence: Annotated[tuple[Equivalence, ...], Field(strict=False, max_length=100)] = ()
    certificate: Certified | None = None
    parameters: Count = 0
    time_steps: Annotated[int, Field(ge=1)] = 1
    levels: Annotated[int, Field(ge=1)] = 1
    image_size: Annotated[tuple[Count, Count], Field(strict=False)] = (0, 0)
    class_names: Annotated[tuple[Text, ...], Field(strict=False, max_length=10_000)] = ()
    available: bool = True
    how_to_get: Text = ""
    hub: HubPin | None = None
    files: dict[str, Count] = {}

    def to_dict(self) -> dict[str, Any]:
        """The card as JSON-able data."""
        data: dict[str, Any] = self.model_dump(mode="json")
        return data

    def to_json(self) -> str:
        """The card as the text of ``card.json`` (without ``files``, which the manifest knows)."""
        return self.model_dump_json(indent=2, exclude={"files"}) + "\n"

    def metric(self, name: str) -> float | None:
        """The first measured value of that name, or None."""
        return next((metric.value for metric in self.metrics if metric.name == name), None)


def make_card(**fields: Any) -> Card:
    """A card from Python values.

    Raises:
        ConfigError: unknown or missing fields, or wrong types.
    """
    try:
        return Card(**fields)
    except ValidationError as error:
        raise ConfigError(f"this is not a valid model card: {_explain(error)}") from None


def parse_card(text: str | bytes, *, source: str = "card.json") -> Card:
    """Read a card from JSON text.

    Raises:
        ConfigError: not JSON, unknown or missing fields, or wrong types.
    """
    try:
        return Card.model_validate_json(text)
    except ValidationError as error:
        raise ConfigError(f"{source} is not a valid model card: {_explain(error)}") from None


def _explain(error: ValidationError) -> str:
    return "; ".join(f"{'.'.join(map(str, e['loc'])) or 'file'}: {e['msg']}" for e in error.errors()[:5])


def read_card(path: Path) -> Card:
    """Read ``card.json`` from a file.

    Raises:
        FileMissingError: no such file.
        ConfigError: see :func:`parse_card`.
    """
    try:
        with path.open("rb") as file:
            text = file.read(2**20)
    except OSError as error:
        raise FileMissingError(f"cannot read the model card {path}: {error.strerror}") from None
    return parse_card(text, source=str(path))
