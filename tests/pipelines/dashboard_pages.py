"""All that the pages of a scheduler and of its workers say, as whoever may open them sees it."""

from __future__ import annotations

import importlib
import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping, Sequence

import dask
import distributed
from bokeh.client import pull_session
from bokeh.core.property.validation import validate

NOT_OPENED = ("statics", "proxy", "eventstream")
"""Files of Dask's own, the pages of workers by another way, and a stream of what other pages show."""

LEFT_OUT = ("/individual-", "/hardware", "/gpu")
"""Single plots of other pages, one that measures the machine for half a minute, and one of what is not there."""

FEW = 6
"""Tasks whose pages are opened."""


def pages_of(client: distributed.Client) -> dict[str, str]:
    """Return what each page, route and plot that `distributed` serves says now, by its address.

    Parameters
    ----------
    client : distributed.Client
        Of a scheduler that has a dashboard, as its workers have.
    """
    info = client.scheduler_info(n_workers=-1)
    workers = list(info["workers"])
    keys = client.run_on_scheduler(lambda dask_scheduler: [str(key) for key in dask_scheduler.tasks])
    named = {"worker": workers, "call-stacks": workers, "logs": workers}
    named |= {"task": keys[:FEW], "call-stack": keys[-FEW:]}
    servers = [("scheduler", info["address"], info["services"]["dashboard"])]
    servers += [("worker", address, one["services"]["dashboard"]) for address, one in info["workers"].items()]
    found = {}
    for kind, address, port in servers:
        base = f"http://{urllib.parse.urlsplit(address).hostname}:{port}"
        found |= {url: _text(url) for url in _routes(kind, base, named)}
        pages = importlib.import_module(f"distributed.dashboard.{kind}").applications
        found |= {f"{base}{path}": _plots(base + path) for path in pages if not path.startswith(LEFT_OUT)}
    return found


def _routes(kind: str, base: str, named: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Yield the addresses of all routes of a scheduler or a worker, for things with the names that there are."""
    for module in dask.config.get(f"distributed.{kind}.http.routes"):
        for pattern, *_ in importlib.import_module(module).routes:
            path = pattern.strip("/")
            if path.partition("/")[0] in NOT_OPENED:
                continue
            names = named[path.split("/")[1]] if "(.*)" in path else [""]
            for name in names:
                yield f"{base}/{path.replace('(.*)', urllib.parse.quote(name, safe=''))}"


def _text(url: str) -> str:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        # A task may be gone by now; what is said of that counts, too.
        return error.read().decode()


def _plots(url: str) -> str:
    """Return the data of a page, which do not come with the page itself."""
    # Dask sends what Bokeh's browser takes, and its Python does not.
    with validate(False):
        session = pull_session(url=url)
        try:
            return json.dumps(session.document.to_json(), default=str)
        finally:
            session.close()
