"""SpikingYOLOX: a YOLOX with ternary spikes and fast Fourier convolution deep in its backbone.

Miao et al., "SpikingYOLOX: Improved YOLOX Object Detection with Fast Fourier Convolution and Spiking Neural Networks", AAAI
2025. Written from the paper's description and from measurements of its published code, which differs from it: that code has
three spiking layers, whose neurons never fire negatively, at T = 1, and is analog everywhere else.

The native form follows the paper, with neurons everywhere: ternary ones (subtractive reset) in the deep backbone, spatial
pyramid pooling of spikes, Fourier convolutions with neurons in the spatial and in the spectral branch, and binary ones
elsewhere.
``compat="published-code"`` computes what the published code does, and has no NIR form.
"""

from __future__ import annotations

from functools import partial
from typing import Literal

from torch import Tensor, nn

from zoo.cards.card import Paper
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import Official, family
from zoo.detectors.spikingyolox.blocks import FFCBlock
from zoo.detectors.spikingyolox.importer import OFFICIAL_SIZES, convert
from zoo.detectors.spikingyolox.sizes import SIZES, decode_spec, input_spec
from zoo.detectors.yolox.blocks import PAFPN, CSPDarknet, SeparableConvAct, analog_modules, stem
from zoo.heads.yolox import YOLOXHead
from zoo.layers.conv import Activation, ConvAct, ConvFactory

Compat = Literal["paper", "published-code"]
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet, for red, green and blue in 0..1; the published code standardises its pictures."""

DIFFERS = (
    "It computes what the published code does, which is not what the paper describes: three layers of binary neurons at T = 1, "
    "which never fire negatively, and SiLU, ELU and ReLU everywhere else. So it has no NIR form."
)


class Standardise(nn.Module):
    """Pictures (N, 3, H, W) in 0..1, minus ImageNet's mean, over its deviation."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, 3, H, W), same shape."""
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        return (x - mean) / std


PAPER = Paper(
    title=("SpikingYOLOX: Improved YOLOX Object Detection with Fast Fourier Convolution and Spiking Neural Networks"),
    authors="Miao et al.",
    venue="AAAI 2025",
    url="https://openreview.net/forum?id=XFn6ehYBSe",
)


@family(
    "spikingyolox",
    sizes=SIZES,
    input_spec=input_spec,
    decode_spec=decode_spec,
    official=Official(OFFICIAL_SIZES, convert, variant={"compat": "published-code"}),
    paper=PAPER,
    licence="The authors' code has no licence; this implementation is written from the paper and from measurements.",
)
class SpikingYOLOX(NetworkModule):
    """The network: (T*B, 3, H, W) in [0, 1] -> three raw head maps (T*B, 5 + num_classes, H/s, W/s), finest first.

    Args:
        size: a key of ``SIZES``.
        num_classes: number of classes.
        time_steps: T.
        levels: must be 1.
        ternary: signed neurons in the deep backbone; without, binary ones everywhere.
        ffc: fast Fourier convolutions in the last stage; without, bottlenecks.
        compat: ``paper`` (native), or ``published-code``, at T = 1.
        standardise: of the published code: subtract ImageNet's mean from pictures, as it was trained with.
    """

    def __init__(
        self,
        size: str,
        *,
        num_classes: int,
        time_steps: int = 1,
        levels: int = 1,
        ternary: bool = True,
        ffc: bool = True,
        compat: Compat = "paper",
        standardise: bool = True,
    ) -> None:
        published = compat == "published-code"
        if not published and compat != "paper":
            raise ValueError(f"compat must be 'paper' or 'published-code', not {compat!r}")
        if levels != 1:
            raise ValueError(f"SpikingYOLOX's neurons have one level: levels must be 1, not {levels}")
        if published and (time_steps != 1 or not ffc or not ternary):
            raise ValueError("the published code has T = 1 and Fourier convolutions; switches are for compat='paper'")
        from zoo.layers.rate_neurons import SignedIF  # snnTorch is needed to build the network, not to know of it

        super().__init__()
        numbers = SIZES[size]
        conv: ConvFactory = SeparableConvAct if numbers.separable else ConvAct
        neuron = partial(SignedIF, time_steps=time_steps)
        signed = partial(neuron, slope=float(ternary))
        act: Activation = nn.SiLU if published else neuron
        pyramid_act: Activation = nn.SiLU if published else signed
        deep_act: Activation = partial(neuron, reset="zero") if published else signed
        inner: Activation = nn.ELU if published else signed
        spectral: Activation = nn.ReLU if published else signed
        block = partial(FFCBlock, act=inner, spectral_act=spectral) if ffc else None
        first = stem(3, numbers.width, analog=published, act=act)
        channels = [4 * numbers.width, 8 * numbers.width, 16 * numbers.width]
        self.published = published
        self.standardise: nn.Module = Standardise() if published and standardise else nn.Identity()
        self.backbone = CSPDarknet(
            first,
            numbers.width,
            numbers.depth,
            act=act,
            pyramid_act=pyramid_act,
            deep_act=deep_act,
            block=block,
            conv=conv,
        )
        self.neck = PAFPN(channels, numbers.depth, act=act, conv=conv)
        self.head = YOLOXHead(num_classes, channels, 4 * numbers.width, act=act, conv=conv)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(T*B, 3, H, W) -> raw head maps, finest first."""
        return self.head(self.neck(self.backbone(self.standardise(x))))

    @property
    def differs(self) -> str:
        """How the published code differs from the paper."""
        return DIFFERS if self.published else ""

    def without_nir_form(self) -> dict[str, str]:
        """Modules that have no exact NIR form, and why."""
        return analog_modules(self)
