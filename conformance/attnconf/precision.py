"""Precision: what the bound of ``numerics.py`` is made of, without a tensor.

How a kernel holds its intermediate values, as a backend declares it, and how many units of the bound an effect takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field

UNIT_ROUNDOFF = {
    "float64": 2.0**-53,
    "float32": 2.0**-24,
    "float22": 2.0**-13,
    "float16": 2.0**-11,
    "bfloat16": 2.0**-8,
    "float8_e4m3fn": 2.0**-4,
}
"""Half the distance from 1 to the next larger number of the dtype.

``float22`` is what Hopper's tensor cores keep of a sum of 8-bit products: 13 bits behind the point, the rest cut off,
so the whole distance counts (DeepSeek-V3, arXiv 2412.19437, section 3.3.2: "around 14 bits").
"""


@dataclass(frozen=True, kw_only=True)
class NumericsProfile:
    """The dtypes of a kernel's intermediate values, as a backend declares them per kernel.

    ``p``: dtype of the probabilities that enter the product with V, ``p_scale`` times what exp() gave. ``row_sum``:
    dtype of the probabilities that the denominator sums. ``accumulator``: dtype of both products' sums. ``partials``:
    dtype of split-KV partial outputs, None without splits. ``tanh``: relative error of the soft cap's tanh.
    ``dequantised``: dtype into which scaled 8-bit keys and values are rounded before the products, None when the scales
    are applied in the accumulator. ``query``: dtype into which the kernel rounds the query, None when it does not round
    it. ``reason`` explains a bound that lies more than tenfold above the errors of campaigns; two profiles that differ
    in it alone are equal.
    """

    p: str = "float32"
    row_sum: str = "float32"
    accumulator: str = "float32"
    partials: str | None = None
    tanh: float = 2.0**-21
    dequantised: str | None = None
    query: str | None = None
    p_scale: float = 1.0
    reason: str = field(default="", compare=False)

    @property
    def cuts_off(self) -> bool:
        """Whether tensor cores make the sums of products, which cut them off: of numbers of 16 or 8 bits, as P is."""
        return UNIT_ROUNDOFF[self.p] > UNIT_ROUNDOFF["float32"] and self.accumulator in {"float32", "float22"}

    @property
    def text(self) -> str:
        """Every value that is not float32, in words: ``P bfloat16, partials bfloat16``."""
        parts = {"P": self.p, "row sum": self.row_sum, "accumulator": self.accumulator, "partials": self.partials}
        parts |= {"dequantised": self.dequantised, "query": self.query}
        named = [f"{name} {dtype}" for name, dtype in parts.items() if dtype not in {None, "float32"}]
        return ", ".join(named) or "float32"


def usual_profile(products: str) -> NumericsProfile:
    """Return the profile of a usual kernel whose products are in this dtype: P is, and 8-bit P is rounded 256-fold."""
    return NumericsProfile(p=products, p_scale=256.0 if products == "float8_e4m3fn" else 1.0)


EFFECTIVE_UNITS = 10.0
"""A feature counts as covered by a case when its absence moves the answer by at least this many units."""

APPROXIMATE_TANH = 2.0**-10
"""Relative error of tanh.approx.f32, which is at most about 2**-11 (PTX ISA): a GPU's soft cap may use it."""

EXACT = NumericsProfile(p="float64", row_sum="float64", accumulator="float64", tanh=2.0**-50)
"""The profile of a float64 evaluation, for tests of the bound itself."""
