"""The a-priori error bound. (Being written.)"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class NumericsProfile:
    """How a kernel holds its intermediate values; a backend declares it per kernel.

    ``p``: dtype of the probabilities entering the product with V. ``accumulator``: dtype of both products' sums.
    ``partials``: dtype of split-KV partial outputs, None without splits. ``tanh``: relative error of the soft cap's
    tanh. ``dequantised``: dtype into which scaled 8-bit keys and values are rounded before the products, None when
    the scales are applied in the accumulator.
    """

    p: str = "float32"
    accumulator: str = "float32"
    partials: str | None = None
    tanh: float = 2.0**-21
    dequantised: str | None = None
