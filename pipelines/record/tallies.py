"""Add up what the tiles of a stage tell, so that the cost of a tile does not grow with what is there already."""

from __future__ import annotations

from collections.abc import Mapping

from diffusion_ops.blocks.statistic import Reduction, Tally


class Tallies:
    """The sums of tallies, per name.

    Each sum lies in a few piles, of which one is at least twice as large as the next. So a number is merged once for
    every doubling of its pile, and not once for every tile; the sums are integers, in any order the same.
    """

    def __init__(self) -> None:
        self._piles: dict[str, list[Tally]] = {}

    def add(self, statistics: Mapping[str, Reduction], tallies: Mapping[str, Tally]) -> None:
        """Add the tallies of a tile, where they are of a statistic."""
        for name, tally in tallies.items():
            if name in statistics:
                piles = self._piles.setdefault(name, [])
                piles.append(tally)
                while len(piles) > 1 and piles[-2].nbytes < 2 * piles[-1].nbytes:
                    self._join(statistics[name], piles)

    def sums(self, statistics: Mapping[str, Reduction]) -> dict[str, Tally]:
        """Return the sums; what they were made of is given up."""
        for name, piles in self._piles.items():
            while len(piles) > 1:
                self._join(statistics[name], piles)
        return {name: piles[0] for name, piles in self._piles.items()}

    @staticmethod
    def _join(statistic: Reduction, piles: list[Tally]) -> None:
        last = piles.pop()
        piles[-1] = statistic.merge(piles[-1], last)

    @property
    def nbytes(self) -> int:
        """Bytes of all piles."""
        return sum(tally.nbytes for piles in self._piles.values() for tally in piles)
