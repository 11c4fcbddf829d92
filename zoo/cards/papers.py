"""The publication behind each family of architectures."""

from __future__ import annotations

from zoo.cards.card import Paper

PAPERS = {
    "spikeyolo": Paper(
        title=(
            "Integer-Valued Training and Spike-Driven Inference Spiking Neural Network for High-performance and "
            "Energy-efficient Object Detection"
        ),
        authors="Xinhao Luo, Man Yao, Yuhong Chou, Bo Xu, Guoqi Li",
        venue="ECCV 2024",
        url="https://arxiv.org/abs/2407.20708",
    ),
}


def paper_of(arch: str) -> Paper | None:
    """The publication of an architecture such as ``spikeyolo-n``."""
    return PAPERS.get(arch.rpartition("-")[0])
