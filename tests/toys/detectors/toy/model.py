"""A toy family: a stem, a neuron, and the toy head."""

from __future__ import annotations

from torch import Tensor
from zoo.heads.centre import CentreHead  # from the folder beside this one, on the path of the package zoo.heads

from zoo.cards.card import Paper
from zoo.config import DecodeSpec, InputSpec
from zoo.detectors.network import NetworkModule
from zoo.detectors.registry import Official, State, family
from zoo.layers.conv import ConvBN

SIZES = {"n": 8, "m": 16}


def convert(state: State, size: str) -> dict[str, Tensor]:
    """Official keys begin with ``theirs.``."""
    del size
    return {key.removeprefix("theirs."): value for key, value in state.items()}


@family(
    "toy",
    sizes=SIZES,
    input_spec=lambda _size: InputSpec(image_size=(32, 32)),
    decode_spec=lambda _size: DecodeSpec(kind="centre", strides=(8,)),
    time_steps=2,
    paper=Paper(title="Toys"),
    licence="Nobody's.",
    official=Official(tuple(SIZES), convert),
)
class Toy(NetworkModule):
    """(T*B, 3, H, W) -> one raw head map (T*B, 4 + num_classes, H/8, W/8)."""

    def __init__(
        self, size: str, *, num_classes: int, time_steps: int = 2, levels: int = 1, decay: float = 0.5
    ) -> None:
        from zoo.layers.neurons import LIF

        del levels
        super().__init__()
        self.stem = ConvBN(3, SIZES[size], 8, 8, padding=0)
        self.neuron = LIF(time_steps=time_steps, decay=decay, threshold=0.1)
        self.head = CentreHead(SIZES[size], num_classes)

    def forward(self, x: Tensor) -> list[Tensor]:
        """(T*B, 3, H, W) -> raw head maps."""
        out: list[Tensor] = self.head(self.neuron(self.stem(x)))
        return out

    def fuse_(self, *, merge: bool) -> None:
        """Fold the norm, in place."""
        self.stem = self.stem.fuse(merge=merge)  # type: ignore[assignment]
