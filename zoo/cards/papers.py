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
    "ems-yolo": Paper(
        title="Deep Directly-Trained Spiking Neural Networks for Object Detection",
        authors="Qiaoyi Su, Yuhong Chou, Yifan Hu, Jianing Li, Shijie Mei, Ziyang Zhang, Guoqi Li",
        venue="ICCV 2023",
        url="https://arxiv.org/abs/2307.11411",
    ),
    "spikingyolox": Paper(
        title=(
            "SpikingYOLOX: Improved YOLOX Object Detection with Fast Fourier Convolution and Spiking Neural Networks"
        ),
        authors="Miao et al.",
        venue="AAAI 2025",
        url="https://openreview.net/forum?id=XFn6ehYBSe",
    ),
    "eas-snn": Paper(
        title=(
            "EAS-SNN: End-to-End Adaptive Sampling and Representation for Event-based Detection with Recurrent Spiking Neural "
            "Networks"
        ),
        authors="Ziming Wang, Ziling Wang, Huaning Li, Lang Qin, Runhao Jiang, De Ma, Huajin Tang",
        venue="ECCV 2024",
        url="https://arxiv.org/abs/2403.12574",
    ),
    "spiking-yolo": Paper(
        title="Spiking-YOLO: Spiking Neural Network for Energy-Efficient Object Detection",
        authors="Seijoon Kim, Seongsik Park, Byunggook Na, Sungroh Yoon",
        venue="AAAI 2020",
        url="https://arxiv.org/abs/1903.06530",
    ),
}


def paper_of(arch: str) -> Paper | None:
    """The publication of an architecture such as ``spikeyolo-n``."""
    return next((paper for family, paper in PAPERS.items() if arch.startswith(f"{family}-")), None)
