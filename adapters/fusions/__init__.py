"""Groups of nodes that run as one kernel with the very same bits; tests compare each with node-wise execution.

A new fusion is a module of this package and a line in ``FUSIONS``.
"""

from __future__ import annotations

from zoo.adapters.fusions.bank import find_banks
from zoo.adapters.fusions.matching import Fusion
from zoo.adapters.fusions.placement import find_placements
from zoo.adapters.fusions.pooled_bank import find_pooled_banks
from zoo.adapters.fusions.rearrangement import find_rearrangements
from zoo.adapters.fusions.soft_reset import find_soft_resets

FUSIONS: tuple[Fusion, ...] = (
    find_soft_resets,
    find_pooled_banks,
    find_banks,
    find_rearrangements,
    find_placements,
)
"""In the order in which they take nodes: a pooled bank takes its Thresholds before they become banks of one."""
