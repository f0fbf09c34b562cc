"""Connected components: every object of a mask gets a number of its own."""

from __future__ import annotations

import numpy as np

from diffusion_ops.blocks.block import Block, allocate
from diffusion_ops.evolution.completion import Completion, largest_exact
from diffusion_ops.evolution.examples import Picture, Samples
from diffusion_ops.evolution.operator import Map, register
from diffusion_ops.evolution.parameters import Choice, parameter
from diffusion_ops.evolution.reach import Reach
from diffusion_ops.families.segmentation.components import Labelling


@register("components")
class Components(Map):
    """Number of the connected component of each cell: 1, 2, ... in the order of their first cells, row by row; 0 stays.

    Neighbours of equal value are of one component; values are rounded to whole numbers. The labels are those of
    scikit-image's `label`, over images of any size and however they are cut. Of several channels, a cell is 0 where
    all are 0, and otherwise alike. Give a type that holds the labels, such as dtype="uint32"; a type that does not is
    refused.

    Parameters
    ----------
    connectivity : int
        Largest number of axes along which neighbours differ: 1 for those along axes alone, 2 for the diagonals of a
        plane, 3 for those of a volume. More than the number of axes is taken for that number.

    Raises
    ------
    ValueError
        For an unknown connectivity, and where the type of the result cannot hold all labels.

    References
    ----------
    Rosenfeld, Pfaltz: Sequential operations in digital picture processing. J. ACM 1966.
    """

    connectivity: int = parameter(Choice((1, 2, 3), unit="axes"), default=3)

    equation = "neighbours of equal value that is not 0 are joined"
    reference = "Rosenfeld and Pfaltz 1966"
    samples = Samples(
        ({}, {"connectivity": 1}),
        lopsided="numbers follow the rows",
        numbered="numbers count the components before, of which noise has more than a byte holds",
    )
    picture = Picture("masked coins", shown="labels")
    couples_channels = True
    new_quantity = True
    gives_labels = True
    compiles = False

    @property
    def takes_labels(self) -> bool:
        """True: labels are told apart."""
        return True

    def completion(self) -> Completion:
        """Return the numbering of components over the whole image."""
        return Labelling(connectivity=self.connectivity)

    def result_channels(self, channels: int) -> int:
        """Return 1."""
        return 1

    def reach(self, spacing: tuple[float, ...]) -> Reach:
        """Return 0: what is joined beyond a tile is found from all tiles together."""
        return Reach((0,) * len(spacing))

    def extra_arrays(self, ndim: int, inertial: bool, channels: int) -> float:
        """Return the rounded values."""
        return 1.25

    def pace(self, ndim: int, channels: int) -> float:
        """Return what was measured in float32."""
        return 2e9

    def apply(self, block: Block) -> None:
        """Put the rounded values in the place of the state.

        Raises
        ------
        ValueError
            For values that single precision does not tell apart.
        """
        found = allocate(1, block.spatial, block.storage.dtype)
        np.rint(block.storage[:1], out=found)
        if len(block.storage) > 1:
            found[0] = np.rint(block.storage).any(axis=0)
        if block.valid_storage is not None:
            found *= block.valid_storage
        largest, exact = max(found.max(initial=0), -found.min(initial=0)), largest_exact(found.dtype)
        if found.dtype == np.float32 and largest >= exact:
            raise ValueError(
                f"The image has values up to {largest:,.0f}, and single precision, in which it is computed, does not "
                f"tell whole numbers from {exact:,} on apart. Give it as float64, or number its labels anew."
            )
        block.storage = found
