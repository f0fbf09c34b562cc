"""Describe parameters that are several numbers, such as thresholds: each may be a statistic of the whole image."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from diffusion_ops.blocks.statistic import STATISTICS, Statistic, statistic_from
from diffusion_ops.evolution.parameters import Number

NumbersOrStatistics: TypeAlias = (
    float
    | Statistic
    | Mapping[str, object]
    | Sequence[float | Statistic | Mapping[str, object]]
    | Literal["auto"]
)
"""One or several numbers, or what finds them in the whole image: statistics, or "auto" where there is a rule."""


@dataclass(frozen=True, kw_only=True)
class Numbers(Number):
    """One or several numbers in a range, kept as a tuple; statistics may stand for any of them.

    Parameters
    ----------
    rising : bool
        True where each must be larger than the one before.
    """

    rising: bool = False

    plain_type = "list of float"

    @property
    def plain_range(self) -> str:
        """The range in words."""
        return f"{super().plain_range}, or a list of such{', rising' if self.rising else ''}"

    def plain_schema(self) -> dict[str, Any]:
        """Return the range as JSON Schema."""
        kinds = [super().plain_schema()]
        if self.statistic:
            names = {"enum": list(STATISTICS)}
            kinds.append({"type": "object", "propertyNames": names, "minProperties": 1, "maxProperties": 1})
        items = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
        return {"anyOf": [kinds[0], {"type": "array", "items": items, "minItems": 1}]}

    def read(self, name: str, value: Any) -> Any:
        """Return a tuple, with the statistics that mappings stand for; what is no list is one of its elements."""
        if value is None:
            return None
        some = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
        return tuple(statistic_from(name, one) if self.statistic else one for one in some)

    def fits(self, value: object) -> bool:
        """Return whether it is a tuple of numbers in the range, or of statistics where they are possible."""
        if not isinstance(value, tuple) or not value:
            return False
        plain = [one for one in value if not (self.statistic and isinstance(one, Statistic))]
        if not all(super(Numbers, self).fits(one) for one in plain):
            return False
        return not self.rising or all(a < b for a, b in itertools.pairwise(plain))
