"""A proof is the same for processes that compute the same, and says what differs."""

from __future__ import annotations

import pickle
import subprocess
import sys
from pathlib import Path
from types import MappingProxyType

import pytest
from distributed import WorkerPlugin

from pipelines.tasks import version
from pipelines.tasks.admission import proof
from pipelines.tasks.admission.proof import Proof, own_proof
from pipelines.tasks.admission.prove_worker import ProveWorker
from tests.plugin_examples import ROOT


def test_another_process_proves_the_same(tmp_path):
    script = "from pipelines.tasks.admission.proof import own_proof; print(own_proof().digest)"
    environment = {"PYTHONPATH": str(ROOT), "PATH": ""}
    told = subprocess.run(
        [sys.executable, "-c", script], env=environment, cwd=tmp_path, capture_output=True, text=True
    )
    assert told.stdout.strip() == own_proof().digest, told.stderr


def test_a_difference_is_named_with_what_is_and_what_is_wanted():
    wanted = Proof(MappingProxyType({"numpy": "2.1", "numba": "0.61"}))
    assert wanted.differences({"numpy": "2.0", "numba": "0.61"}) == "numpy is 2.0, wanted 2.1"
    assert wanted.digest != Proof(MappingProxyType({"numpy": "2.0", "numba": "0.61"})).digest


@pytest.mark.parametrize(
    "name", ["diffusion_ops/evolve.py", "pipelines/kinds/evolve.py", "pipelines/events.py"]
)
def test_every_module_decides_the_version_but_those_of_the_command(monkeypatch, tmp_path, name):
    sources = list(version._sources())
    assert not [one for one, _ in sources if one.startswith("pipelines/cli/")]
    edited = tmp_path / "edited.py"

    def digest(instead: str) -> str:
        def read() -> list[tuple[str, Path]]:
            return [(one, edited if one == instead else path) for one, path in sources]

        edited.write_bytes((ROOT / name).read_bytes() + b"#")
        monkeypatch.setattr(version, "_sources", read)
        return version.code_version.__wrapped__()

    assert digest(name) != digest("")


def test_the_last_bit_of_a_function_is_seen(monkeypatch):
    before = proof.probe()
    exp = proof._SCALAR[0]
    others = proof._SCALAR[1:]
    monkeypatch.setattr(proof, "_SCALAR", (lambda x: exp(x) if x < 8 else exp(x) * (1 + 2**-52), *others))
    assert proof.probe() != before


def test_the_plugin_needs_nothing_of_ours_to_be_read(tmp_path):
    sent = tmp_path / "plugin"
    sent.write_bytes(pickle.dumps(ProveWorker("topic", "resource", {"numpy": "2.1"}, 3)))
    script = (
        "import pickle, sys; from pathlib import Path; plugin = pickle.loads(Path('plugin').read_bytes());"
        "print(plugin.name, plugin.arguments['wanted'], 'pipelines' in sys.modules)"
    )
    told = subprocess.run(
        [sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert told.stdout.split("\n")[0] == "topic {'numpy': '2.1'} False"
    assert isinstance(pickle.loads(sent.read_bytes()), WorkerPlugin)
