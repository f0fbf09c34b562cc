"""Run a front through a large plane patch by patch, where fronts start all over it.

The cells that wait lie all over the window then, and their neighbours anywhere in memory: most of the time went by in
waiting for it. What a patch takes fits the cache. It is copied with a halo of one cell, in which nothing changes, and
its fronts run until nothing changes in it; then the patches beside it wait, the one with the earliest change first.
So it is done with tiles over files, too, and with the same bits as any other order.
"""

from __future__ import annotations

import heapq
import itertools
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from diffusion_ops.families.fronts.window import FrontWindow, Region
from diffusion_ops.kernels.fronts.front import EARLIER, LATER

SIDE = 512
"""Longest side of a patch."""

PATCH_BYTES = (SIDE + 4) ** 2 * (8 + 8 + 1 + 2)
"""Largest memory of a patch: times, what the front runs through, flags, and room to wait."""

FEW = 4
"""Patches up to which a plane is not cut. Volumes never are: so much of a small one is surface that nothing is won."""

Patch = tuple[int, ...]


def run_through(
    window: FrontWindow, image: NDArray[Any], speeds: bool, spacing: tuple[float, ...], until: float
) -> None:
    """Let a front run through a window until nothing changes, and label what it has reached.

    Parameters
    ----------
    image : ndarray of the shape of `window.body`
        Costs or speeds.
    speeds : bool
    spacing : tuple of float
    until : float
        Later times are infinite.
    """
    patches = Patches(window)
    waiting = patches.waiting() if patches.count > FEW and len(window.spatial) == 2 else {}
    # Along a few fronts the cells that wait fit the cache as they are, and a patch is left and entered again and again.
    if 2 * len(waiting) > patches.count:
        patches.run(waiting, image[window.own], speeds, spacing, until)
    else:
        window.advance(image, speeds, spacing, until)
    window.label()


@dataclass
class Patches:
    """A window in patches of about the same size.

    Attributes
    ----------
    whole : FrontWindow
    """

    whole: FrontWindow

    @property
    def cuts(self) -> list[range]:
        """Where patches begin along each axis, counted from the start of the window."""
        return [range(0, n, math.ceil(n / math.ceil(n / SIDE))) for n in self.whole.spatial]

    @property
    def count(self) -> int:
        """Number of the patches."""
        return math.prod(map(len, self.cuts))

    def waiting(self) -> dict[Patch, float]:
        """Return the patches in or beside which cells wait, with the time of the first of them."""
        found = {}
        for patch in itertools.product(*(range(len(cut)) for cut in self.cuts)):
            place = self._place(patch, 1)
            waits = self.whole.flags[place] & (EARLIER | LATER) != 0
            if waits.any():
                found[patch] = float(self.whole.times[place][waits].min())
        return found

    def run(self, waiting: dict[Patch, float], image: NDArray[Any], *terms: Any) -> None:
        """Update until nothing changes, from the patches that wait; see `FrontWindow.advance`."""
        queue = [(time, patch) for patch, time in waiting.items()]
        heapq.heapify(queue)
        while queue:
            time, patch = heapq.heappop(queue)
            # One that has come to wait for an earlier change stands in the queue twice.
            if waiting.get(patch) != time:
                continue
            del waiting[patch]
            for other, change in self._visit(patch, image, terms):
                if change < waiting.get(other, math.inf):
                    waiting[other] = change
                    heapq.heappush(queue, (change, other))
        # Those of the halo were taken from copies alone.
        self.whole.flags &= ~np.uint8(EARLIER | LATER)

    def _region(self, patch: Patch) -> Region:
        """Return the cells of a patch, counted from the start of the window."""
        places = zip(patch, self.cuts, self.whole.spatial, strict=True)
        return tuple(slice(cut[k], min(cut[k] + cut.step, n)) for k, cut, n in places)

    def _place(self, patch: Patch, halo: int) -> Region:
        """Return a patch and cells around it in the padded arrays."""
        return tuple(slice(s.start - halo, s.stop + halo) for s in self.whole.place(self._region(patch)))

    def _visit(
        self, patch: Patch, image: NDArray[Any], terms: tuple[Any, ...]
    ) -> Iterator[tuple[Patch, float]]:
        """Let fronts run through a patch; yield those beside it that have to follow, with the first change."""
        copy, inside = self._copy(patch), self._place(patch, 0)
        before = copy.sides()
        copy.advance(image[self._region(patch)], *terms)
        self.whole.times[inside], self.whole.flags[inside] = copy.times[copy.inner], copy.flags[copy.inner]
        for side, change in copy.changes(before).items():
            axis, end = divmod(side, 2)
            at = patch[axis] + (1 if end else -1)
            if 0 <= at < len(self.cuts[axis]):
                yield (*patch[:axis], at, *patch[axis + 1 :]), change

    def _copy(self, patch: Patch) -> FrontWindow:
        """Return a copy of a patch, into which fronts come from around it."""
        spatial = tuple(s.stop - s.start for s in self._region(patch))
        copy = FrontWindow.empty(spatial, self.whole.times.dtype, labelled=False)
        copy.times[1:-1] = self.whole.times[self._place(patch, 1)]
        copy.flags[copy.inner] = self.whole.flags[self._place(patch, 0)]
        copy.enter()
        return copy
