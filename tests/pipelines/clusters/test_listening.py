"""What a run starts on this machine can be reached from this machine alone."""

from __future__ import annotations

import psutil
import pytest

from pipelines.events import Event, TileDone
from pipelines.run.run import run
from tests.pipelines.runs import ragged_image, save_source, small_spec


def listening() -> set[str]:
    """Return the addresses at which this process and its children listen."""
    process = psutil.Process()
    sockets = [s for one in (process, *process.children(recursive=True)) for s in one.net_connections()]
    return {socket.laddr.ip for socket in sockets if socket.status == psutil.CONN_LISTEN}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("cluster", "dashboard"),
    [
        ("threads", False),
        ("threads", True),
        pytest.param("local", False, marks=pytest.mark.slow),
        ("local", True),
    ],
)
def test_own_workers_listen_on_the_loopback_only(tmp_path, cluster, dashboard):
    before, found = listening(), set[str]()

    def look(event: Event) -> None:
        if isinstance(event, TileDone) and not found:
            found.update(listening())

    how = {"cluster": cluster, "dashboard": dashboard}
    source = save_source(tmp_path, ragged_image())
    assert run(small_spec(source, tmp_path / "out.zarr", run=how), listeners=[look]).exit_code == 0
    assert found - before <= {"127.0.0.1", "::1"}
    assert found
