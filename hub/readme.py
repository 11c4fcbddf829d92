"""The README.md of one model, generated from its card and configuration."""

from __future__ import annotations

from zoo.cards.card import Card
from zoo.config import ModelConfig

TEMPLATE = """---
license: {licence}
library_name: nir-zoo
pipeline_tag: {task}
tags: [spiking-neural-network, neuromorphic, NIR, snntorch, object-detection]
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
    detector = zoo.load("{name}")                   # or the path of this folder
    result = detector.predict("picture.png")
{graph_use}
{metrics}{provenance}"""

GRAPH_USE = """    twin = zoo.load("{name}", backend="norse")    # rebuilt from model.nir alone

`model.nir` is standard NIR: `nir.read("model.nir", type_check=False)` reads it, and `zoo.import_nir` runs it.
"""


def render(card: Card, config: ModelConfig, *, has_graph: bool) -> str:
    """The text of README.md."""
    height, width = config.input.image_size
    return TEMPLATE.format(
        name=card.name,
        description=card.description or f"A {card.arch} detector.",
        arch=card.arch,
        dataset=card.dataset or "not stated",
        task=card.task,
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
        graph_use=GRAPH_USE.format(name=card.name) if has_graph else "",
        metrics=_metrics(card),
        provenance=_provenance(card),
    )


def _extra(card: Card) -> str:
    rows = []
    if card.data_licence:
        rows.append(f"| licence of the training data | {card.data_licence} |\n")
    if card.paper:
        link = f"[{card.paper.title}]({card.paper.url})" if card.paper.url else card.paper.title
        rows.append(f"| paper | {', '.join(part for part in (card.paper.authors, link, card.paper.venue) if part)} |\n")
    return "".join(rows)


def _metrics(card: Card) -> str:
    if not card.metrics:
        return ""
    lines = ["## Measured", "", "| metric | value | on | conditions | source |", "|---|---|---|---|---|"]
    for metric in card.metrics:
        where = " ".join(part for part in (metric.dataset, metric.split) if part)
        count = f", {metric.images} images" if metric.images else ""
        lines.append(f"| {metric.name} | {metric.value:.4f} | {where}{count} | {metric.conditions} | {metric.source} |")
    return "\n".join([*lines, "", ""])


def _provenance(card: Card) -> str:
    given = {key: value for key, value in card.provenance.model_dump().items() if value}
    if not given:
        return ""
    return "\n".join(["## Provenance", "", *(f"- {key}: `{value}`" for key, value in given.items()), ""])
