"""From micro-slices of events to the frames that a detector sees: the encoder in front of the NIR graph.

The gate of the adaptive sampler multiplies two values that both depend on the data. A graph of affine maps and thresholds
cannot do that, so the sampler stays outside, in plain torch, and is the same for every backend.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from zoo.detectors.encoder import POLARITIES, EventEncoder
from zoo.errors import InvalidInputError
from zoo.layers.surrogates import rectangle


class AdaptiveSampler(EventEncoder):
    r"""The adaptive sampler of EAS-SNN: a recurrent convolutional spiking layer that decides when a frame is full.

    For each pixel and polarity, over the slices f from the newest to the oldest,

    .. math::
        [g_t, c_t] &= X(f_t) + S(s_{t-1}), \qquad u_t = \sigma(g_t)\,v_{t-1} + c_t \\
        s_t &= [u_t > 1], \qquad v_t = u_t (1 - s_t), \qquad a_t = a_{t-1}(1 - s_{t-1}) + u_t

    The k-th spike writes a into frame k, for k up to Ts. X and S are small convolutional networks. Without data-dependent
    indexing: every frame takes a_t times [this spike is the k-th]. Source: Wang et al., "EAS-SNN: End-to-End Adaptive Sampling
    and Representation for Event-based Detection with Recurrent Spiking Neural Networks", ECCV 2024, section 3.2.

    Args:
        tm: micro-slices.
        ts: frames.
        rpd: residual potential dropout: what no spike has written by the end is dropped; else it goes into the next frame.
        sat: spike-aware training: frames are a times s, so that gradients reach the sampler's spikes. It changes no value.
        kernel: side of the convolutions.
        depth: convolutions in X and in S, with ReLU between them.
    """

    def __init__(
        self, *, tm: int = 4, ts: int = 1, rpd: bool = True, sat: bool = True, kernel: int = 5, depth: int = 2
    ) -> None:
        super().__init__(tm=tm, ts=ts)
        if kernel < 1 or kernel % 2 == 0 or depth < 1:
            raise InvalidInputError(f"kernel must be odd and depth at least 1, got {kernel} and {depth}")
        self.rpd, self.sat = rpd, sat
        self.input_net = self._net(kernel, depth)
        self.gate_net = self._net(kernel, depth)
        self.spike_grad = rectangle()
        for module in self.input_net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.orthogonal_(module.weight, nn.init.calculate_gain("relu"))
        for module in self.gate_net.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, nonlinearity="sigmoid")

    @staticmethod
    def _net(kernel: int, depth: int) -> nn.Sequential:
        layers: list[nn.Module] = []
        for index in range(depth):
            channels = POLARITIES if index == 0 else 2 * POLARITIES
            layers += [nn.ReLU()] if index else []
            layers.append(nn.Conv2d(channels, 2 * POLARITIES, kernel, padding=kernel // 2))
        return nn.Sequential(*layers)

    def forward(self, slices: Tensor) -> Tensor:
        """(Tm, B, 2, H, W), oldest first -> (Ts, B, 2, H, W)."""
        frames, _ = self.sample(slices)
        return frames

    def sample(self, slices: Tensor) -> tuple[Tensor, Tensor]:
        """Frames (Ts, B, 2, H, W), and the spikes of each step (Tm, B, 2, H, W), newest slice first."""
        self.check(slices)
        newest_first = slices.flip(0)
        currents = self.input_net(newest_first.flatten(0, 1)).split(slices.shape[1])
        potential = spike = summed = written = torch.zeros_like(slices[0])
        frames: list[Tensor | None] = [None] * self.ts
        spikes = []
        for step, current in enumerate(currents):
            gate, charge = (current + self.gate_net(spike)).split(POLARITIES, dim=1)
            potential = gate.sigmoid() * potential + charge
            spike = self.spike_grad(potential - 1)
            summed = summed + potential
            emitted = summed * (spike if self.sat else spike.detach())
            for slot in range(min(self.ts, step + 1)):
                share = emitted * (written == slot) if self.ts > 1 or step else emitted
                present = frames[slot]
                frames[slot] = share if present is None else present + share
            silent = (1 - spike).detach()
            written = written + spike.detach()
            potential, summed = potential * (1 - spike), summed * silent
            spikes.append(spike)
        if not self.rpd:
            frames = [(0 if frame is None else frame) + summed * (written == slot) for slot, frame in enumerate(frames)]
        zero = torch.zeros_like(slices[0])
        return torch.stack([zero if frame is None else frame for frame in frames]), torch.stack(spikes)
