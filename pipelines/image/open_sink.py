"""Choose the format of a result: the one that the spec names, else by the ending of the target."""

from __future__ import annotations

from pipelines.image.info import ImageInfo
from pipelines.image.sink import SINKS, Sink, SinkSpec
from pipelines.store.addresses import shown


def open_sink(spec: SinkSpec, info: ImageInfo) -> Sink:
    """Return the sink for a target and an image.

    Parameters
    ----------
    spec : SinkSpec
    info : ImageInfo
        Metadata of the result: of two formats with the same ending, the one that suits it better is taken.

    Raises
    ------
    ValueError
        For an unknown format or ending; the message lists those that exist.
    """
    if spec.format is not None:
        return SINKS[spec.format](spec)
    name = spec.uri.rstrip("/").lower()
    fitting = [cls for cls in SINKS.values() if any(name.endswith(e) for e in cls.extensions)]
    if not fitting:
        raise ValueError(
            f"The ending of {shown(spec.uri)!r} names no format. Allowed: {known_endings()}. "
            "Choose one of these endings, or say which with `format`."
        )
    # The longest ending first: .ome.zarr is also a .zarr.
    return max(fitting, key=lambda cls: (_ending_length(cls, name), cls.suits(info), cls.priority))(spec)


def _ending_length(cls: type[Sink], name: str) -> int:
    return max(len(e) for e in cls.extensions if name.endswith(e))


def known_endings() -> str:
    """Return all endings with their formats, for messages."""
    return ", ".join(f"{' '.join(cls.extensions)} ({name})" for name, cls in SINKS.items())
