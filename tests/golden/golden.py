"""The golden files of the official implementations: weights and inputs from a formula, outputs from disk.

The formula is in tests/data/golden/README.md.
"""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

CASES = Path(__file__).parents[1] / "data" / "golden"
Array = npt.NDArray[np.float64]


def close(actual: Tensor | Array, expected: Array, limit: float) -> bool:
    """Largest difference within ``limit`` of the largest expected value."""
    return bool(np.abs(np.asarray(actual) - expected).max() <= limit * np.abs(expected).max())


@contextmanager
def output_sums(root: nn.Module, *kinds: type[nn.Module]) -> Iterator[dict[str, float]]:
    """Sum of the outputs of each module of some kinds by its name, while the context is open."""
    sums: dict[str, float] = {}
    hooks = [
        module.register_forward_hook(lambda _m, _i, out, name=name: sums.update({name: float(out.sum())}))
        for name, module in root.named_modules()
        if isinstance(module, kinds)
    ]
    yield sums
    for hook in hooks:
        hook.remove()


class Golden:
    """One case: what was run, and what came out."""

    def __init__(self, name: str) -> None:
        self.case: dict[str, Any] = json.loads((CASES / name / "case.json").read_text())
        with np.load(CASES / name / "golden.npz") as arrays:
            self.arrays = {key: arrays[key] for key in arrays.files}

    def weights(self) -> dict[str, Tensor]:
        """Official key -> float64 tensor; the digest of all is checked."""
        digest = hashlib.sha256()
        state = {}
        for key, shape in self.case["state_dict"]:
            if key.endswith("num_batches_tracked"):
                continue
            if key in self.case["constant_buffers"]:
                value = np.array(self.case["constant_buffers"][key], np.float64).reshape(shape)
            else:
                value = self._draw(key, shape)
                digest.update(np.ascontiguousarray(value, "<f8").tobytes())
            state[key] = torch.from_numpy(value)
        self.digest = digest.hexdigest()
        return state

    def _draw(self, key: str, shape: list[int]) -> Array:
        rng = np.random.default_rng(zlib.crc32(f"{self.case['seed']}:{key}".encode()))
        leaf = key.rsplit(".", 1)[-1]
        gain = next(g for prefix, g in self.case["weight_rule"]["weight_gain"] if key.startswith(prefix))
        if leaf == "running_mean":
            return 0.1 * rng.standard_normal(shape)
        if leaf == "running_var":
            return 0.5 + rng.random(shape)
        if len(shape) >= 2:
            return rng.standard_normal(shape) * np.sqrt(gain / np.prod(shape[1:]))
        if not shape:
            return np.array(0.0 if self.case["weight_rule"]["plif_w"] == "zero" else 0.5 * rng.standard_normal())
        if leaf == "weight":
            return 0.6 + 0.8 * rng.random(shape)
        return (0.2 if leaf == "bias" else 0.1) * rng.standard_normal(shape)

    def inputs(self) -> Array:
        """The input; its digest is checked."""
        rng = np.random.default_rng(self.case["seed"])
        shape = self.case["input_shape"]
        if self.case["input_rule"] == "uniform":
            x = rng.random(shape)
        elif self.case["input_rule"] == "standard_normal":
            x = rng.standard_normal(shape)
        elif self.case["input_rule"] == "grid":
            x = (np.floor(rng.random(shape) * self.case["input_n"]) + self.case["input_lo"]) / 8
        elif self.case["input_rule"] == "events":
            mask = rng.random(shape) < 0.1
            x = np.where(mask, np.floor(1 + 4 * rng.random(shape)), 0.0)
        else:
            raise NotImplementedError(self.case["input_rule"])
        assert hashlib.sha256(np.ascontiguousarray(x, "<f8").tobytes()).hexdigest() == self.case["input_sha256"]
        return x
