"""Folding batch norms: each fused layer computes the same function, borders included; naive folding does not."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from zoo.detectors.spikeyolo.reparam import RepConv, SepRepConv
from zoo.layers.conv import ConvBN, TransposedConvBN, affine_of, batch_norm, fold, plain_conv


def randomise(module: nn.Module, seed: int = 0) -> nn.Module:
    """Random weights and batch norm statistics in float64, eval mode."""
    generator = torch.Generator().manual_seed(seed)

    def draw(tensor: Tensor, scale: float = 1.0, shift: float = 0.0) -> None:
        tensor.data = shift + scale * torch.randn(tensor.shape, generator=generator, dtype=torch.float64)

    module.double().eval()
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            assert part.running_mean is not None
            assert part.running_var is not None
            draw(part.weight, 0.2, 1.0)
            draw(part.bias, 0.5)
            draw(part.running_mean, 0.5)
            part.running_var.data = 0.5 + torch.rand(part.running_var.shape, generator=generator, dtype=torch.float64)
        elif isinstance(part, nn.Conv2d):
            draw(part.weight, 0.5)
            if part.bias is not None:
                draw(part.bias)
    return module


def close(actual: Tensor, expected: Tensor) -> bool:
    """Equal to 1e-12 relative to the largest entry."""
    return bool((actual - expected).abs().max() <= 1e-12 * expected.abs().max())


SIZES = [(7, 7), (5, 9), (1, 4), (8, 6)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("merge", [False, True])
@pytest.mark.parametrize("trailing", [0, 1, 2])
@pytest.mark.parametrize("kind", [RepConv, SepRepConv])
def test_reparameterised_convolutions_fold_exactly(
    kind: type[RepConv | SepRepConv], trailing: int, merge: bool, size: tuple[int, int]
) -> None:
    rep, norms = kind(4, 6), [batch_norm(6) for _ in range(trailing)]
    layer = randomise(nn.Sequential(rep, *norms))
    fused = rep.fuse(*norms, merge=merge)
    x = torch.randn(3, 4, *size, dtype=torch.float64)
    assert close(fused(x), layer(x))
    assert all(isinstance(part, nn.Conv2d | nn.Sequential) for part in fused.modules())


def test_zero_padding_under_batch_norm_is_wrong_at_the_border_only() -> None:
    layer = RepConv(4, 6)
    randomise(layer)
    naive = nn.Sequential(
        plain_conv(layer.expand, lambda: fold(layer.expand, layer.pad.bn)),
        plain_conv(layer.depthwise, lambda: fold(layer.depthwise), padding=1, groups=4),
        plain_conv(layer.project, lambda: fold(layer.project, layer.bn)),
    )
    x = torch.randn(2, 4, 7, 6, dtype=torch.float64)
    expected, actual = layer(x), naive(x)
    assert close(actual[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1])
    assert not torch.allclose(actual[..., 0, :], expected[..., 0, :], atol=1e-3)


@pytest.mark.parametrize(("kernel", "stride", "padding"), [(7, 4, 2), (3, 2, None), (1, 1, None), (7, 2, 3)])
@pytest.mark.parametrize("bias", [False, True])
def test_convolution_and_norm_fold_exactly(kernel: int, stride: int, padding: int | None, bias: bool) -> None:
    layer = ConvBN(3, 5, kernel, stride, padding=padding, bias=bias)
    randomise(layer)
    x = torch.randn(2, 3, 17, 12, dtype=torch.float64)
    assert close(layer.fuse()(x), layer(x))


def test_border_uses_running_statistics_in_training() -> None:
    layer = RepConv(4, 6)
    randomise(layer)
    _, shift = affine_of(layer.pad.bn)
    layer.train()
    padded = layer.pad(torch.randn(2, 4, 5, 5, dtype=torch.float64))
    # the forward pass updates the statistics after the border was computed from them
    assert torch.equal(padded[0, :, 0, 0], shift)


def test_stock_folding_rounds_more_than_once() -> None:
    """torch.fx folds in the type of the weights: its float32 constants are not the exact ones, rounded. Ours are."""
    from torch.fx.experimental.optimization import fuse

    layer = ConvBN(16, 32, 3)
    randomise(layer)
    with torch.no_grad():
        layer.float().eval()
    ours = layer.fuse()
    (stock,) = (m for m in fuse(layer).modules() if isinstance(m, nn.Conv2d))
    scale = layer.bn.weight.double() / (layer.bn.running_var.double() + layer.bn.eps).sqrt()  # type: ignore[union-attr]
    exact = layer.conv.weight.double() * scale.view(-1, 1, 1, 1)
    assert torch.equal(ours.weight.float(), exact.float())
    assert (stock.weight != exact.float()).float().mean() > 0.1


def test_transposed_convolutions_fold_exactly() -> None:
    layer = TransposedConvBN(3, 5)
    randomise(layer)
    x = torch.randn(2, 3, 6, 4, dtype=torch.float64)
    assert close(layer.fuse()(x), layer(x))


def test_norms_without_statistics_are_refused() -> None:
    with pytest.raises(ValueError, match="without running statistics"):
        fold(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, track_running_stats=False))
