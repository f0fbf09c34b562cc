"""Define what an operator is tested with and drawn with; both stand in the operator's own file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class Samples:
    """Parameters that the contract tests make an operator with, and what those have to know of it.

    Images are noise of 0 to 200. Influence has to travel as far as the halo says: a conductance near 1 lets it, one
    near 0 hides a halo that is too short.

    Parameters
    ----------
    parameters : tuple of mappings
        One for each sample. Without any, required numbers are 1e4, and a second sample has sigma = 0.8 where there is
        a sigma.
    lopsided : str
        The reason why it is not alike along all axes and in both directions, if it is not.
    placed : str
        The reason why its result depends on the place in the image, on its frame or channel, if it does.
    faint : str
        The reason why its farthest cells show after one step only, if they do.
    decisive : str
        The reason why its result is a decision that the farthest cells hardly ever sway, if it is; it needs a test of
        its own for how far it reads.
    numbered : str
        The reason why the values at one place depend on how many things there are elsewhere, if they do.
    image : str
        "noise", or "times" where it takes the times of a front only.
    """

    parameters: tuple[Mapping[str, Any], ...] = ()
    lopsided: str = ""
    placed: str = ""
    faint: str = ""
    decisive: str = ""
    numbered: str = ""
    image: Literal["noise", "times"] = "noise"


@dataclass(frozen=True)
class Picture:
    """What is drawn of an operator: an image before and after.

    Parameters
    ----------
    image : str
        Name of the image before, one of `IMAGES` in tests/pictures/make_pictures.py.
    parameters : mapping
        Of the operator.
    far : mapping
        Extent of the evolution: {"time": 4}. By default the time 4 where a time controls it.
    shown : str
        How values become shades: "grey levels" as they are, "stretched" from black to white, "angles" as hues, or
        "labels" as colours over the image.
    markers : tuple of (row, column)
        Places of the markers 1, 2, ... of a problem that reads them.
    """

    image: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    far: Mapping[str, Any] = field(default_factory=dict)
    shown: Literal["grey levels", "stretched", "angles", "labels"] = "grey levels"
    markers: tuple[tuple[int, int], ...] = ()
