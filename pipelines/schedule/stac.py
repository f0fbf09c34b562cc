"""Read which images a STAC catalogue, collection, item or collection of items names, through the store module."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pipelines.refusal import RefusedError
from pipelines.store.addresses import shown
from pipelines.store.places import place_of


class CatalogueError(RefusedError):
    """A catalogue that cannot be read, or that does not have what was asked for."""


@dataclass(frozen=True)
class Asset:
    """One image of a catalogue.

    Attributes
    ----------
    uri : str
    item, name, collection : str
        Its item's id, its own key, and its collection's id, "" without one.
    """

    uri: str
    item: str
    name: str
    collection: str


def assets_in(uri: str, name: str | None) -> list[Asset]:
    """Return the assets of all items below a catalogue that have a name.

    Parameters
    ----------
    uri : str
        Address of JSON.
    name : str or None
        Key of the assets; None where each item has one asset alone.

    Raises
    ------
    CatalogueError
    """
    try:
        items = list(_items(uri))
    except ImportError:
        raise CatalogueError(
            f"{shown(uri)} is read as a STAC catalogue, which needs the extra `stac`: pip install 'diffuse[stac]'."
        ) from None
    except OSError:
        raise
    except Exception as error:  # the library raises anything for what is not as it should be
        raise CatalogueError(
            f"{shown(uri)} is no STAC catalogue, collection, item or FeatureCollection of items: "
            f"{type(error).__name__}: {error}. Give a list of addresses as a text file instead (.txt)."
        ) from error
    return [_asset(uri, item, name) for item in items]


def _asset(uri: str, item: Any, name: str | None) -> Asset:
    names = list(item.assets)
    chosen = names[0] if name is None and len(names) == 1 else name
    if chosen not in item.assets:
        wanted = "several assets" if name is None else f"no asset {name!r}"
        raise CatalogueError(
            f"{shown(uri)}: the item {item.id!r} has {wanted}. Choose with --asset. "
            f"Allowed: {', '.join(names) or 'none'}."
        )
    href = item.assets[chosen].get_absolute_href() or item.assets[chosen].href
    return Asset(href, item.id, str(chosen), item.collection_id or "")


def _items(uri: str) -> Iterator[Any]:
    """Yield the items of a catalogue; its links are followed through the store module, like any address."""
    import pystac

    class Stored(pystac.StacIO):
        def read_text(self, source: Any, *args: Any, **kwargs: Any) -> str:
            place, path = place_of(str(source))
            return place.read(path).decode()

        def write_text(self, dest: Any, txt: str, *args: Any, **kwargs: Any) -> None:
            raise io.UnsupportedOperation("catalogues are only read")

    values = json.loads(Stored().read_text(uri))
    if values.get("type") == "FeatureCollection":
        for feature in values["features"]:
            yield pystac.Item.from_dict(feature, href=uri)
        return
    found = pystac.read_dict(values, href=uri, stac_io=Stored())
    if isinstance(found, pystac.Catalog):
        yield from found.get_items(recursive=True)
    else:
        yield found
