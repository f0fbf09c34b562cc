"""Workers on hosts that are logged in on: with a real SSH server on this machine the bytes are those of threads."""

from __future__ import annotations

from pathlib import Path

import pytest

import diffusion_ops as do
from pipelines.run.run import run
from pipelines.spec.spec import Spec
from tests.pipelines.certificates import make_certificates
from tests.pipelines.runs import ragged_image, read_result, save_source, small_spec

asyncssh = pytest.importorskip("asyncssh", reason="the extra ssh is not installed")


def spec_in(folder: Path, cluster: dict[str, object]) -> Spec:
    return small_spec(save_source(folder, ragged_image()), folder / "out.zarr", run={"cluster": cluster})


@pytest.mark.thorough
@pytest.mark.parametrize("encrypted", [True, False])
def test_hosts_give_the_bytes_of_threads(tmp_path, ssh_here, encrypted):
    tls = {"tls": str(make_certificates(tmp_path / "keys"))} if encrypted else {}
    assert run(spec_in(tmp_path, {**ssh_here.options(), **tls})).exit_code == 0
    whole = do.evolve(ragged_image(), do.PeronaMalik(contrast=5000, conductance="rational"), steps=9)
    assert read_result(tmp_path / "out.zarr").tobytes() == whole.tobytes()


@pytest.mark.parametrize(
    ("option", "message"), [("key", "Permission denied"), ("known_hosts", "Host key is not trusted")]
)
def test_who_is_not_trusted_is_told_so(tmp_path, ssh_here, option, message):
    asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(tmp_path / "key"))
    (tmp_path / "known_hosts").touch()
    folder = tmp_path / "run"
    folder.mkdir()
    with pytest.raises(ValueError, match=f"could not start a worker: .*{message}"):
        run(spec_in(folder, {**ssh_here.options(), option: str(tmp_path / option)}))
    assert [path.name for path in folder.iterdir()] == ["source.npy"]
