"""The README.md of one model, generated from its card and configuration: also its page on the Hugging Face Hub."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from zoo.cards.card import Card, Metric
from zoo.config import ModelConfig

TEMPLATE = """---
{front_matter}
---
# {name}

{description}

| | |
|---|---|
| architecture | {arch} |
| trained on | {dataset} |
| classes | {classes} |
| input | {channels} channels, {height}x{width} pixels, {resize}, values in 0..1 |
| time steps T | {time_steps} |
| levels D | {levels} |
| parameters | {parameters:,} (deployed form) |
| licence | {licence} |
{extra}
## Use

    import zoo
    detector = zoo.load("{load}")                   # or the path of this folder
    result = detector.predict({example})
{graph_use}
{measured}{reported}{equivalence}{certificate}{activity}{provenance}"""

GRAPH_USE = """    twin = zoo.load("{load}", backend="norse")    # rebuilt from model.nir {alone}; spikingjelly, sinabs, jax

Without this package, `model.nir` is standard NIR. It is a discrete-time graph with a step of 1: what every node means in each
step is written down in docs/discrete-time.md; importers that assume anything else give other spikes (docs/conformance.md).

    import nir
    graph = nir.read("model.nir", type_check=False)

`manifest.json` has the sha256 of every file; `zoo.load` checks it before it opens one.
"""


def render(card: Card, config: ModelConfig, *, has_graph: bool, repo: str = "") -> str:
    """The text of README.md.

    Args:
        card: of the model.
        config: of the model.
        has_graph: there is a ``model.nir``.
        repo: ``organisation/name`` on the Hub, where it is published.
    """
    height, width = config.input.image_size
    load = f"hf-hub:{repo}" if repo else card.name
    events = config.input.events is not None
    alone = "and the sampler's weights" if events else "alone"
    return TEMPLATE.format(
        front_matter=_front_matter(card),
        name=card.name,
        description=card.description or f"A {card.arch} detector.",
        arch=card.arch,
        dataset=card.dataset or "not stated",
        classes=f"{len(config.class_names)}: " + ", ".join(config.class_names[:12]),
        channels=config.input.channels,
        height=height,
        width=width,
        resize=config.input.resize,
        time_steps=config.time_steps,
        levels=config.levels,
        parameters=card.parameters,
        licence=card.licence or "unknown",
        extra=_extra(card),
        load=load,
        example='"picture.png"' if not events else "events",
        graph_use=GRAPH_USE.format(load=load, alone=alone) if has_graph else "",
        measured=_metrics("Measured", card.metrics),
        reported=_metrics("Reported by the paper or its authors, of their weights", card.paper_metrics),
        equivalence=_equivalence(card),
        certificate=_certificate(card),
        activity=_activity(card),
        provenance=_provenance(card),
    )


def _deployed(card: Card) -> list[Metric]:
    """The metrics of what is published to be run; not of the weights before quantisation or conversion."""
    return [metric for metric in card.metrics if "trainable weights" not in metric.conditions]


def _front_matter(card: Card) -> str:
    """What the Hub indexes; the metrics as ``model-index``."""
    from huggingface_hub import EvalResult, ModelCardData

    results = [
        EvalResult(
            task_type=card.task,
            dataset_type=metric.dataset,
            dataset_name=metric.dataset,
            dataset_split=metric.split or None,
            metric_type=metric.name,
            metric_name=f"{metric.name} ({metric.conditions})",
            metric_value=metric.value,
        )
        for metric in _deployed(card)
    ]
    data = ModelCardData(
        license=card.licence.lower() or None,
        library_name="nir-zoo",
        pipeline_tag=card.task,
        tags=["spiking-neural-network", "neuromorphic", "NIR", "snntorch", "object-detection"],
        model_name=card.name,
        eval_results=results or None,
    )
    return data.to_yaml(line_break="\n")


def eval_results(card: Card) -> str:
    """The metrics as the text of ``.eval_results/nir-zoo.yaml``; empty without any.

    The Hub shows such entries beside data sets that are registered there as benchmarks.
    """
    import yaml
    from huggingface_hub import EvalResultEntry, eval_result_entries_to_yaml

    entries = [
        EvalResultEntry(
            dataset_id=metric.dataset,
            task_id=f"object-detection/{metric.split or 'test'}/{metric.name}",
            value=metric.value,
            date=card.provenance.date or None,
            notes=f"T = {card.time_steps}, D = {card.levels}, {card.image_size[0]}x{card.image_size[1]} pixels; "
            f"{metric.images} images; {metric.conditions}",
        )
        for metric in _deployed(card)
    ]
    return str(yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, width=120)) if entries else ""


def _extra(card: Card) -> str:
    rows = []
    if card.data_licence:
        rows.append(f"| licence of the training data | {card.data_licence} |\n")
    if card.paper:
        link = f"[{card.paper.title}]({card.paper.url})" if card.paper.url else card.paper.title
        rows.append(f"| paper | {', '.join(part for part in (card.paper.authors, link, card.paper.venue) if part)} |\n")
    return "".join(rows)


def _table(title: str, columns: Sequence[str], rows: Iterable[Sequence[str]], note: str = "") -> str:
    lines = [f"## {title}", "", f"| {' | '.join(columns)} |", "|" + "---|" * len(columns)]
    lines += [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([*lines, *(["", note] if note else []), "", ""])


def _metrics(title: str, metrics: Sequence[Metric]) -> str:
    if not metrics:
        return ""
    rows = []
    for metric in metrics:
        where = " ".join(part for part in (metric.dataset, metric.split) if part)
        count = f", {metric.images} images" if metric.images else ""
        rows.append([metric.name, f"{metric.value:.4f}", f"{where}{count}", metric.conditions, metric.source])
    return _table(title, ["metric", "value", "on", "conditions", "source"], rows)


_NAMES = {"module": "the snnTorch definition", "snntorch": "snntorch, rebuilt"}


def _equivalence(card: Card) -> str:
    if not card.equivalence:
        return ""
    rows = [
        [
            f"{_NAMES.get(row.backend, row.backend)} {row.version}".strip(),
            row.dtype,
            str(row.images),
            f"{row.spikes:,}",
            f"{row.mismatches:,}",
            f"{row.head_error:.1e}" if row.head_error else "0",
        ]
        for row in card.equivalence
    ]
    note = (
        f"Against the numpy reference, from rest; rows: {card.equivalence[0].source}. Try it: `zoo verify {card.name}`."
    )
    return _table(
        "The same spikes in every framework",
        ["framework", "arithmetic", "inputs", "spikes", "differing", "head error"],
        rows,
        note,
    )


def _certificate(card: Card) -> str:
    found = card.certificate
    if found is None:
        return ""
    if not found.certified:
        return f"Not certified for {found.dtype}: rounding there may flip single spikes; exact in float64.\n\n"
    return (
        f"Certified for {found.dtype} (`zoo certify`): no sum needs more than {found.bits:.2f} bits of the mantissa, "
        f"thresholds keep a distance of {found.margin:g} units, so every backend gives the same bits ({found.source}).\n\n"
    )


def _activity(card: Card) -> str:
    found = card.activity
    if found is None:
        return ""
    rows = [
        ["spikes per neuron and time step", f"{found.spike_rate:.4f}"],
        ["effective ACs", f"{found.effective_acs / 1e6:.2f} M"],
        ["effective MACs", f"{found.effective_macs / 1e6:.2f} M"],
        ["dense MACs", f"{found.dense_macs / 1e6:.2f} M"],
    ]
    note = f"Mean of {found.images} inputs. {found.conditions} Row: {found.source}."
    return _table("Activity per picture, all time steps together", ["", ""], rows, note)


def _provenance(card: Card) -> str:
    given = {key: value for key, value in card.provenance.model_dump().items() if value}
    if not given:
        return ""
    return "\n".join(["## Provenance", "", *(f"- {key}: `{value}`" for key, value in given.items()), ""])


def write_eval_results(folder: Path, card: Card) -> None:
    """Write ``.eval_results/nir-zoo.yaml`` into a folder, if there are metrics."""
    text = eval_results(card)
    if text:
        (folder / ".eval_results").mkdir()
        (folder / ".eval_results" / "nir-zoo.yaml").write_text(text, encoding="utf-8")
