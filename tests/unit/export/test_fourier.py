"""Fourier transforms, reflected borders, splits and max-pools of ternary spikes in standard NIR, against torch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from zoo.adapters.base import get_backend
from zoo.detectors.spikingyolox.blocks import FFCBlock
from zoo.errors import ExportError
from zoo.layers.fourier import IRFFT2, RFFT2
from zoo.layers.rate_neurons import SignedIF
from zoo.nir_graphs import reference
from zoo.nir_graphs.axis_maps import complex_fourier, inverse_real_fourier, real_fourier
from zoo.nir_graphs.export import export_module

SIZES = [(4, 4), (5, 8), (8, 5), (7, 9), (1, 6), (6, 1), (3, 2), (20, 20)]


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def run(module: nn.Module, x: Tensor) -> Tensor:
    """The exported module on the reference: (B, C, H, W) at T = 1."""
    graph = export_module(module, tuple(x.shape[1:]))  # type: ignore[arg-type]
    return torch.from_numpy(reference.run(graph, x[None].numpy()).outputs["output_0"][0])


def near(found: Tensor, expected: Tensor, limit: float = 1e-12) -> bool:
    return bool((found - expected).abs().max() <= limit * expected.abs().max())


class Inverse(nn.Module):
    """A spectrum that no real map has, back to a real map."""

    def __init__(self) -> None:
        super().__init__()
        self.fft, self.inverse = RFFT2(), IRFFT2()
        self.mix = nn.Conv2d(6, 6, 1).double()

    def forward(self, x: Tensor) -> Tensor:
        return self.inverse(self.mix(self.fft(x)), x)


@pytest.mark.parametrize("size", SIZES)
def test_transforms_equal_torch_fft(size: tuple[int, int]) -> None:
    x = noise(2, 3, *size)
    expected = torch.view_as_real(torch.fft.rfft2(x, norm="ortho"))  # (B, C, H, W', 2)
    found = run(RFFT2(), x)
    assert near(found.unflatten(1, (3, 2)).permute(0, 1, 3, 4, 2), expected)
    torch.manual_seed(0)
    module = Inverse()
    with torch.no_grad():
        mixed = module.mix(RFFT2()(x))
        pairs = torch.complex(mixed[:, 0::2], mixed[:, 1::2])
        assert near(run(module, x), torch.fft.irfft2(pairs, s=size, norm="ortho"))


@pytest.mark.parametrize("size", [1, 2, 3, 4, 6, 8, 12, 20])
def test_the_matrices_hold_exact_zeros_and_halves(size: int) -> None:
    root = np.sqrt(size)
    quarter = real_fourier(size) * root
    if size % 4 == 0:
        assert quarter[0, size // 4].tolist() == [1.0, 0.0, -1.0, 0.0] * (size // 4)
    assert (inverse_real_fourier(size)[0, 1, :, 0] == 0).all()
    identity = np.einsum("klqh,lmhr->kmqr", complex_fourier(size, inverse=True), complex_fourier(size))
    for one in range(2):
        for other in range(2):
            np.testing.assert_allclose(identity[one, other], np.eye(size) * (one == other), atol=1e-14)


@pytest.mark.parametrize("act", [nn.Identity, None], ids=["linear", "ternary"])
@pytest.mark.parametrize("size", [(4, 6), (5, 3), (20, 20)])
def test_a_whole_block_equals_torch(size: tuple[int, int], act: Any) -> None:
    """Linear: to 1e-12 of torch.fft. With neurons: every spike, on the reference and on every backend."""
    torch.manual_seed(0)
    neuron: Callable[[], nn.Module] = act or (lambda: SignedIF(time_steps=1, slope=1.0))
    block = FFCBlock(8, act=neuron, spectral_act=neuron).double().eval()
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.6, 1.4)
            nn.init.normal_(module.bias, 0, 0.2)
        elif isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, 0, (1.5 / module.weight[0].numel()) ** 0.5)
    x = noise(16, 8, *size).sign() * (noise(16, 8, *size, seed=1) > 0.5)
    with torch.no_grad():
        expected = block(x)
        for module in list(block.modules()):
            if hasattr(module, "fuse_"):
                module.fuse_(merge=False)  # type: ignore[operator]
            if isinstance(module, SignedIF):
                module.freeze(torch.float64)
        assert near(block(x), expected)
    found = run(block, x)
    if act is not None:
        assert near(found, expected)
        return
    counts = expected - x
    assert set(counts.unique().tolist()) == {-1.0, 0.0, 1.0}
    assert 0.05 < float(counts.abs().mean()) < 0.6
    assert torch.equal(found, expected)
    graph = export_module(block, (8, *size))
    for name in ("snntorch", "norse", "spikingjelly", "sinabs", "jax"):
        assert torch.equal(get_backend(name).build(graph, dtype=torch.float64)(x[None])["output_0"][0], expected), name


@pytest.mark.parametrize("padding", [1, (1, 2, 0, 3), (0, 0, 2, 0)])
def test_reflected_borders(padding: int | tuple[int, int, int, int]) -> None:
    x = noise(2, 3, 4, 5)
    module = nn.ReflectionPad2d(padding)
    assert torch.equal(run(module, x), module(x))


def test_borders_wider_than_the_map_are_refused() -> None:
    with pytest.raises(ExportError, match="must be less than the map of 3x5"):
        export_module(nn.ReflectionPad2d(3), (2, 3, 5))


# Splits.


class Split(nn.Module):
    """Joins three maps and splits them elsewhere."""

    def __init__(self, sizes: Any) -> None:
        super().__init__()
        self.convs = nn.ModuleList(nn.Conv2d(2, channels, 1).double() for channels in (3, 4, 2))
        self.sizes = sizes

    def forward(self, x: Tensor) -> list[Tensor]:
        parts = torch.split(torch.cat([conv(x) for conv in self.convs], dim=1), self.sizes, dim=1)
        return [parts[0], parts[-1], parts[1]]


@pytest.mark.parametrize("sizes", [[3, 4, 2], [1, 7, 1], [4, 5], 4])
def test_splits_equal_torch(sizes: Any) -> None:
    torch.manual_seed(0)
    x, module = noise(2, 2, 3, 4), Split(sizes)
    graph = export_module(module, (2, 3, 4))
    outputs = reference.run(graph, x[None].numpy()).outputs
    with torch.no_grad():
        for index, expected in enumerate(module(x)):
            assert near(torch.from_numpy(outputs[f"output_{index}"][0]), expected)


class Sliced(nn.Module):
    """What the rules do not know."""

    def __init__(self, how: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.how = how

    def forward(self, x: Tensor) -> Any:
        return self.how(x)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (lambda x: x[:, :1], "only the parts of a split"),
        (lambda x: torch.split(x, 1, dim=2)[0], "only along channels"),
        (lambda x: torch.split(x, [1, 1], dim=1)[0], r"splits 3 channels into \[1, 1\]"),
        (lambda x: torch.split(x, 1, dim=1)[3], "only the parts of a split"),
    ],
)
def test_other_slices_are_refused(how: Callable[[Tensor], Any], message: str) -> None:
    with pytest.raises(ExportError, match=message):
        export_module(Sliced(how), (3, 4, 4))


# Ternary spikes.


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(2, 2, 0), (3, 1, 1), (5, 1, 2), (3, 2, 1), (13, 1, 6)])
def test_the_maximum_of_ternary_spikes(kernel: int, stride: int, padding: int) -> None:
    """Where all of a window is -1, also at the border, where the window is smaller."""
    neuron = SignedIF(time_steps=1, slope=1.0).double()
    neuron.freeze(torch.float64)
    x = torch.full((16, 2, 7, 9), -1.0, dtype=torch.float64)
    rng = np.random.default_rng(0)
    for index in range(16):  # from all -1 to mostly 0
        x[index][torch.from_numpy(rng.random((2, 7, 9)) < index / 30)] = 0.0
        x[index][torch.from_numpy(rng.random((2, 7, 9)) < index / 150)] = 1.0
    module = nn.Sequential(neuron, nn.MaxPool2d(kernel, stride, padding))
    expected = module(x)
    assert {-1.0, 0.0, 1.0} == set(expected.unique().tolist())
    assert torch.equal(run(module, x), expected)


def test_pools_of_pools_and_pools_of_sums() -> None:
    neuron = SignedIF(time_steps=1, slope=1.0).double()
    neuron.freeze(torch.float64)
    twice = nn.Sequential(neuron, nn.MaxPool2d(3, 1, 1), nn.MaxPool2d(3, 1, 1))
    x = noise(4, 2, 6, 6) * 2
    assert torch.equal(run(twice, x), twice(x))

    class Residual(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.neuron, self.pool = neuron, nn.MaxPool2d(3, 1, 1)

        def forward(self, x: Tensor) -> Tensor:
            spikes = self.neuron(x)
            return self.pool(spikes + x)

    with pytest.raises(ExportError, match="it pools real values"):
        export_module(Residual(), (2, 6, 6))


@pytest.mark.parametrize("slope", [0.0, 1.0])
def test_neurons_with_subtractive_reset_learn(slope: float) -> None:
    torch.manual_seed(0)
    x = (torch.randn(12, 2, 3, 3, dtype=torch.float64)).requires_grad_()
    neuron = SignedIF(time_steps=4, slope=slope).double()
    spikes = neuron(x)
    (spikes * torch.randn_like(spikes)).sum().backward()
    assert x.grad is not None
    assert bool((x.grad != 0).all())
    with torch.no_grad():
        assert torch.equal(neuron(x), spikes.detach())


@pytest.mark.parametrize("name", ["snntorch", "norse", "spikingjelly", "sinabs", "jax", "brian2"])
def test_the_neuron_that_a_spike_sets_to_zero_is_nirs_if(name: str) -> None:
    import nir

    neuron = SignedIF(time_steps=24, reset="zero").double()
    neuron.freeze(torch.float64)
    graph = export_module(neuron, (2, 2, 3))
    assert sum(isinstance(node, nir.IF) for node in graph.nodes.values()) == 1
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(-6, 9, (24 * 16, 2, 2, 3), generator=generator).double() / 8  # ties with the threshold
    expected = neuron(x).unflatten(0, (24, -1))
    assert 0.05 < float(expected.mean()) < 0.5
    found = get_backend(name).build(graph, dtype=torch.float64)(x.unflatten(0, (24, -1)))["output_0"]
    assert torch.equal(found, expected)
