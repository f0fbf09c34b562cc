"""The command as a user meets it: help at once, exit codes, refusals in words, JSON, interruption."""

import errno
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner, Result

from diffusion_ops.evolution.operator import OPERATORS
from pipelines.cli.command import app, verbs
from pipelines.clusters import address
from pipelines.events import RunStarted
from pipelines.run.run import Report

VERBS = (
    "demo",
    "apply",
    "plan",
    "run",
    "watch",
    "status",
    "preview",
    "tune",
    "warm",
    "verify",
    "list",
    "schema",
)
COMMAND = [sys.executable, "-m", "pipelines.cli.command"]

SPEC = """\
source: {uri: image.npy}
steps:
  - {operator: perona-malik, contrast: {quantile: 0.6}, time: 2}
sink: {uri: out.ome.zarr}
run: {tile: 64, threads: 1}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with an image and a spec of it."""
    monkeypatch.chdir(tmp_path)
    np.save("image.npy", np.random.default_rng(5).integers(0, 255, (150, 130), np.uint8))
    Path("scene.yaml").write_text(SPEC)
    return tmp_path


def diffuse(*words: str) -> Result:
    return CliRunner().invoke(app, list(words))


# ---- help


def test_help_imports_nothing_heavy():
    code = (
        "import sys\n"
        "from pipelines.cli.command import app\n"
        "app(['--help'], standalone_mode=False)\n"
        "heavy = {'numpy', 'numba', 'dask', 'distributed', 'zarr', 'xarray', 'pydantic', 'scipy'}\n"
        "print('HEAVY', sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "HEAVY []" in out
    assert all(verb in out for verb in VERBS)


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_has_help(verb):
    result = diffuse(verb, "--help")
    assert result.exit_code == 0
    assert "--help" in result.stdout


def test_the_version_is_said():
    assert diffuse("--version").stdout.startswith("diffuse ")


# ---- the main way


def test_plan_run_status_verify_and_preview_of_a_spec(folder):
    planned = diffuse("plan", "scene.yaml")
    assert planned.exit_code == 0, planned.stderr
    assert "halo" in planned.stdout
    assert not list(folder.glob("out*"))

    ran = diffuse("run", "scene.yaml")
    assert ran.exit_code == 0, ran.stderr
    assert str(folder / "out.ome.zarr") in ran.stdout
    assert (folder / "out.ome.zarr.run" / "report.json").exists()

    assert "complete already" in diffuse("run", "scene.yaml").stdout
    assert "complete" in diffuse("status", "out.ome.zarr").stdout
    assert diffuse("verify", "out.ome.zarr", "--samples", "3").exit_code == 0

    region = diffuse("preview", "scene.yaml", "--roi", "0:70,20:60")
    assert region.exit_code == 0, region.stderr
    assert (folder / "out_0-70_20-60.ome.zarr").exists()


def test_apply_takes_parameters_in_yaml_and_aliases(folder):
    result = diffuse(
        "apply", "perona-malik", "image.npy", "out.zarr",
        "-p", "kappa={quantile: 0.5}", "-p", "option=2", "--steps", "3", "--dtype", "uint8",
        "--pyramid", "none", "--threads", "1", "--spacing", "pixel", "--channels", "joint", "--ndim", "2",
    )  # fmt: skip
    assert result.exit_code == 0, result.stderr
    report = json.loads((folder / "out.zarr.run" / "report.json").read_text())
    assert report["spec"]["steps"][0]["kappa"] == {"quantile": 0.5}
    assert report["spec"]["sink"]["dtype"] == "uint8"


def test_json_is_one_event_per_line_with_the_report_last(folder):
    result = diffuse("run", "scene.yaml", "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert events[0]["event"] == "run_started"
    assert events[-1]["event"] == "run_finished"
    assert events[-1]["report"]["complete"] is True
    assert sum(event["event"] == "tile_done" for event in events) == events[0]["tiles"]
    verified = diffuse("verify", "out.ome.zarr", "--json").stdout.splitlines()
    assert json.loads(verified[-1])["ok"] is True


@pytest.mark.parametrize("verb", [("plan", "scene.yaml"), ("status", "out.ome.zarr")])
def test_json_of_an_instant_verb_is_one_object(folder, verb):
    diffuse("run", "scene.yaml")
    assert json.loads(diffuse(*verb, "--json").stdout)["tiles"] > 0


def test_the_command_line_says_how(folder):
    plan = json.loads(diffuse("plan", "scene.yaml", "--memory", "700MiB", "--threads", "2", "--json").stdout)
    assert plan["memory_limit"] == 700 << 20
    assert plan["threads"] == 2


# ---- lists


def test_operators_are_listed_with_parameters_and_units():
    text = diffuse("list", "operators").stdout
    for name in OPERATORS:
        assert name in text
    assert "image units per unit length" in text
    assert "kappa" in text


def test_one_operator_is_listed_alone():
    (entry,) = json.loads(diffuse("list", "operators", "heat", "--json").stdout)
    assert entry["name"] == "heat"
    assert entry["keeps_mean"] is True


def test_formats_and_clusters_are_listed():
    formats = json.loads(diffuse("list", "formats", "--json").stdout)
    assert {"sources", "sinks"} == set(formats)
    assert all(entry["about"] for entries in formats.values() for entry in entries)
    assert "threads" in diffuse("list", "clusters").stdout
    assert ".npy" in diffuse("list", "formats").stdout


def test_the_schema_is_json():
    assert "steps" in json.loads(diffuse("schema").stdout)["properties"]


# ---- refusals: exit 2, in words, and nothing is written


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("run", "none.yaml"), "There is no file none.yaml"),
        (("run", "bad.yaml"), "bad.yaml, line 3: steps[0]: unknown key 'contrst'. Did you mean 'contrast'?"),
        (("run", "scene.yaml", "--memory", "much"), "run.memory: 'much' is not an amount of memory"),
        (("plan", "scene.yaml", "--memory", "50MiB"), "52,428,800"),
        (("run", "scene.yaml", "--memory", "50MiB"), "52,428,800"),
        (("preview", "scene.yaml", "--roi", "5"), "is not a region"),
        (("status", "nothing.zarr"), "There is no run of nothing.zarr"),
        (("verify", "nothing.zarr"), "There is no run of nothing.zarr"),
        (("list", "operators", "het"), "There is no 'het' among the operators"),
        (("list", "operater"), "operater"),
        (("run",), "SPEC"),
        (("run", "scene.yaml", "--qiuck"), "qiuck"),
        (("apply", "het", "image.npy", "b.zarr", "--time", "1"), "het: there is no operator 'het'"),
        (("apply", "heat", "image.npy", "b.zarr"), "heat: give 'time'"),
        (("apply", "heat", "image.npy", "b.zarr", "--time", "1", "-p", "time=2"), "'time' is given twice"),
        (("apply", "heat", "image.npy", "b.zarr", "--time", "1", "-p", "contrast"), "is not a parameter"),
        (("apply", "heat", "image.npy", "b.zarr", "--time", "1", "-p", "a={b"), "not valid YAML"),
        (
            ("apply", "perona-malik", "image.npy", "b.zarr", "--time", "1", "-p", "k={quantile:0.9}"),
            "space follows",
        ),
        (("apply", "heat", "none.tif", "b.zarr", "--time", "1"), "none.tif"),
        (("apply", "heat", "image.npy", "b.xyz", "--time", "1"), "names no format"),
        (("apply", "heat", "image.npy", "image.npy", "--time", "1"), "image.npy"),
        (("apply", "heat", "image.npy", "b.zarr", "--time", "1", "--cluster", "moon"), "moon"),
        (("run", "scene.yaml", "-c", "workers=2"), "unknown key 'workers'. Allowed: kind."),
        (("run", "scene.yaml", "--cluster", "address"), "give either the 'address'"),
        (
            ("run", "scene.yaml", "--cluster", "tcp://a:1", "-c", "adress=tcp://b:1"),
            "Did you mean 'address'?",
        ),
        (("run", "scene.yaml", "--cluster", "tcp://a:1", "-c", "tls=5"), "tls: should be a word, got 5."),
        (("run", "scene.yaml", "--cluster", "tcp://a:1", "-c", "tls"), "such as --cluster-option workers=8"),
        (("run", "scene.yaml", "-c", "a=1", "-c", "a=2"), "--cluster-option a is given twice"),
        (("run", "scene.yaml", "--cluster", "there.json"), "there is no such file"),
        (("run", "scene.yaml", "--cluster", "tls://127.0.0.1:1", "-c", "tls=keys"), "lacks ca.pem, cert.pem"),
        (("run", "scene.yaml", "--cluster", "tcp://127.0.0.1:1"), "No scheduler answers"),
    ],
)
def test_a_refusal_has_exit_code_2_and_says_why(folder, words, message, monkeypatch):
    monkeypatch.setattr(address, "ANSWER_SECONDS", 1.0)
    Path("bad.yaml").write_text(SPEC.replace("contrast", "contrst"))
    before = sorted(folder.iterdir())
    result = diffuse(*words)
    assert result.exit_code == 2
    assert message in " ".join(result.stderr.split())
    assert "Traceback" not in result.stderr
    assert sorted(folder.iterdir()) == before


def test_an_existing_target_is_refused_and_replaced_when_asked(folder):
    Path("out.ome.zarr").mkdir()
    assert diffuse("run", "scene.yaml").exit_code == 2
    assert diffuse("run", "scene.yaml", "--overwrite").exit_code == 0
    assert (folder / "out.ome.zarr" / "zarr.json").exists()


def test_a_refusal_with_json_is_an_object_too():
    result = diffuse("run", "none.yaml", "--json")
    assert json.loads(result.stdout)["event"] == "refused"
    assert json.loads(result.stdout)["exit_code"] == 2


def test_a_traceback_is_there_when_asked_for():
    assert "Traceback" in diffuse("--traceback", "run", "none.yaml").stderr


# ---- failures and interruption


def test_failed_tiles_are_exit_code_3(folder, monkeypatch):
    report = json.loads(json.dumps(verbs.run_spec(verbs.load_spec("scene.yaml")).data))
    failure = {"stage": "heat", "tile": 3, "region": "y 0:5, x 0:5", "error": "OSError: lost"}
    report |= {
        "complete": False,
        "failed": [failure] * 30,
        "tiles_done": report["tiles"] - 1,
        "problem": "no room",
    }
    monkeypatch.setattr(verbs, "run_spec", lambda *args, **options: Report(report))
    result = diffuse("run", "scene.yaml")
    assert result.exit_code == 3
    for part in (
        "failed: heat, tile 3 (y 0:5, x 0:5): OSError: lost",
        "and 20 more",
        "no room",
        "the same command goes on",
    ):
        assert part in result.stdout


def test_a_full_disk_is_exit_code_3_and_says_how_to_go_on(folder, monkeypatch):
    def full(*args, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/somewhere")

    monkeypatch.setattr(verbs, "run_spec", full)
    result = diffuse("run", "scene.yaml")
    assert result.exit_code == 3
    assert "The disk is full (/somewhere)" in result.stderr
    assert "go on with" in result.stderr


def test_a_wrong_bit_is_exit_code_3(folder, monkeypatch):
    found = {
        "ok": False,
        "problems": ["window y 0:5: 1 value differs"],
        "tiles": 1,
        "windows": 1,
        "target": "t",
    }
    monkeypatch.setattr(verbs, "run_verify", lambda *args, **options: found)
    result = diffuse("verify", "t")
    assert result.exit_code == 3
    assert "1 value differs" in result.stdout


def test_a_place_that_cannot_be_used_is_a_refusal(folder, monkeypatch):
    def forbidden(*args, **options):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/somewhere")

    monkeypatch.setattr(verbs, "run_spec", forbidden)
    result = diffuse("run", "scene.yaml")
    assert result.exit_code == 2
    assert result.stderr == "Permission denied (/somewhere). Choose another place.\n"


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (
            PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/somewhere"),
            "Permission denied (/somewhere)",
        ),
        (OSError(errno.EDQUOT, os.strerror(errno.EDQUOT), "/somewhere"), "quota is used up (/somewhere)"),
        (ValueError("odd shape"), "Unexpected ValueError: odd shape"),
        (KeyError("key"), "Unexpected KeyError: 'key'"),
        (MemoryError(), "no memory left"),
    ],
)
def test_whatever_goes_wrong_after_the_begin_is_exit_code_3(folder, monkeypatch, error, words):
    def stopped(*args, listeners, **options):
        for listener in listeners:
            listener(RunStarted("out.ome.zarr", {}, 1, 0))
        raise error

    monkeypatch.setattr(verbs, "run_spec", stopped)
    result = diffuse("run", "scene.yaml")
    assert result.exit_code == 3
    assert words in result.stderr
    assert "go on with" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
def test_an_interrupted_run_says_how_to_go_on_and_does(folder):
    np.save("image.npy", np.random.default_rng(5).integers(0, 255, (300, 300), np.uint8))
    text = SPEC.replace("time: 2", "time: 100, schedule: explicit").replace("tile: 64", "tile: 64, batch: 50")
    Path("scene.yaml").write_text(text.replace("out.ome.zarr}", "out.ome.zarr, chunk: 64}"))
    process = subprocess.Popen(
        [*COMMAND, "run", "scene.yaml", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    for line in process.stdout:
        if json.loads(line)["event"] == "tile_done":
            process.send_signal(signal.SIGINT)
            break
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out.splitlines()[-1])["event"] == "interrupted"
    assert "Go on with:\n  diffuse run scene.yaml --json" in err
    assert "stopped" in diffuse("status", "out.ome.zarr").stdout

    events = [json.loads(line) for line in diffuse("run", "scene.yaml", "--json").stdout.splitlines()]
    # Where kernels were not all kept, compiling comes first.
    assert next(event for event in events if event["event"] == "run_started")["done"] > 0
    assert not [event for event in events if event["event"] == "tile_lost"]
    assert events[-1]["report"]["complete"] is True


@pytest.mark.thorough
def test_lines_instead_of_a_picture_where_it_is_no_terminal(folder):
    done = subprocess.run([*COMMAND, "run", "scene.yaml"], capture_output=True, text=True, check=True)
    assert "\x1b" not in done.stdout + done.stderr
    assert "stage 0, measure contrast" in done.stderr
    assert done.stdout.startswith("result  ")


@pytest.mark.thorough
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_a_live_picture_on_a_terminal(folder):
    driver, terminal = os.openpty()
    process = subprocess.Popen(
        [*COMMAND, "run", "scene.yaml"], stdout=terminal, stderr=terminal, close_fds=True
    )
    os.close(terminal)
    shown = b""
    try:
        while chunk := os.read(driver, 4096):
            shown += chunk
    except OSError:  # the end of a pseudo-terminal is an error on Linux
        pass
    os.close(driver)
    assert process.wait() == 0
    assert b"\x1b[" in shown
    assert " tiles" in shown.decode()


@pytest.mark.thorough
@pytest.mark.parametrize("asked", [(), ("--traceback",)])
def test_what_python_ignores_is_shown_when_asked_for(asked):
    program = """
import atexit, sys
from pipelines.cli import command
class Fails:
    def __del__(self):
        raise ValueError
kept = [Fails()]
atexit.register(kept.clear)
command.main()
"""
    ran = subprocess.run(
        [sys.executable, "-c", program, *asked, "list", "operators", "none"], capture_output=True, text=True
    )
    assert ran.returncode == 2
    assert ("Traceback" in ran.stderr) == bool(asked)


def test_a_closed_pipe_is_not_a_traceback():
    shell = f"{sys.executable} -m pipelines.cli.command schema | head -c 20"
    done = subprocess.run(["bash", "-c", shell], capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr
