"""Sweeps as jobs of a real cluster: two nodes without hushsweep, one of which is killed; and what is refused."""

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cluster_support import PATIENCE, Cluster, cluster, wait_for
from rows_support import assert_same_rows
from ruamel.yaml import YAML
from typer.testing import CliRunner

from hushsweep.dashboards import run_query
from hushsweep.datasets.results import Store
from hushsweep.sweeps import run
from hushsweep.sweeps.cli import app

HEAD, WORKER, OTHER = "127.0.0.2", "127.0.0.3", "127.0.0.4"
SWEEP = """
name: submitted
dataset: {name: digits, limit: 80}
model: {name: digits_mlp, weights: random, seed: [0, 1, 2, 3]}
mechanism: {name: gaussian, noise_scale: [0.5, 2]}
measures:
  - {name: accuracy, draws: 2}
  - {name: hcr, images: 32, restarts: 8, rounds: 4, low_frequency: 3}
device: cpu
execution: {shards: 2, cpus_per_trial: 1, threads: 1, max_failures: 3}
"""
SLOW = SWEEP.replace("images: 32, restarts: 8, rounds: 4", "images: 80, restarts: 500, rounds: 500")
"""The same points with a measure that nobody waits for."""
EXAMPLES = Path(__file__).parents[2] / "sweeps" / "examples"
MISSING = """
name: missing
dataset: {name: imagefolder, root: /nowhere/images}
model: {name: torchvision/resnet18, weights: random}
mechanism: {name: none}
measures: {name: accuracy}
device: cpu
"""


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A Python that has what hushsweep depends on, but not hushsweep; and its PYTHONPATH."""
    folder = tmp_path_factory.mktemp("bare")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    return str(folder / "bin" / "python"), sysconfig.get_path("purelib")  # its .pth files are not read


@pytest.fixture(scope="module")
def nodes(bare: tuple[str, str]) -> Iterator[Cluster]:
    python, packages = bare
    with cluster(python, PYTHONPATH=packages) as started:
        started.start_node(WORKER)
        started.wait_for_node(WORKER)
        yield started


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "hushsweep.sweeps", *map(str, words)]


def environment(nodes: Cluster, **more: str) -> dict[str, str]:
    # RAY_ADDRESS must not win over the address that was given
    return {**os.environ, **nodes.secrets, "RAY_ADDRESS": "http://127.0.0.1:1", "COLUMNS": "160", **more}


def call(nodes: Cluster, *words: object, **more: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*words, "--address", nodes.dashboard),
        env=environment(nodes, **more),
        cwd=nodes.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=PATIENCE,
    )
    return done.returncode, done.stdout


def follow(nodes: Cluster, sweep: Path, results: Path) -> "subprocess.Popen[str]":
    """Submit a sweep in a process that goes on until it ends."""
    words = ("submit", sweep, "--results", results, "--no-mlflow", "--follow", "--address", nodes.dashboard)
    return subprocess.Popen(
        command(*words),
        env=environment(nodes),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_the_nodes_have_no_hushsweep_of_their_own(bare: tuple[str, str]) -> None:
    python, packages = bare
    done = subprocess.run(
        [python, "-c", "import ray, torch; import hushsweep.sweeps"],
        env={**os.environ, "PYTHONPATH": packages},
        capture_output=True,
        text=True,
    )
    assert "No module named 'hushsweep'" in done.stderr


def test_a_sweep_is_stopped_submitted_again_and_loses_a_node(
    nodes: Cluster, sweep: Path, reference: Path, tmp_path: Path
) -> None:
    results = tmp_path / "results"
    (tmp_path / "slow.yaml").write_text(SLOW)
    code, output = call(nodes, "submit", tmp_path / "slow.yaml", "--results", results, "--no-mlflow")
    assert code == 0, output
    first = re.findall(r"submitted: (submitted-\w+)", output)[0]
    wait_for(lambda: (results / "hushsweep.json").exists() and bool(Store(results).completed()))
    # a row needs both shards, and neither worker gets beyond its first: so each node has computed one
    assert nodes.runs_trial(HEAD)
    assert nodes.runs_trial(WORKER)
    code, output = call(nodes, "stop", first)
    assert (code, f"{first}: stopped" in output) == (0, True), output
    done = Store(results).completed()
    code, output = call(nodes, "logs", first, "--follow")
    assert (code, "Interrupted. What is complete is kept" in output) == (130, True), output
    assert "Traceback" not in output

    again = follow(nodes, sweep, results)
    wait_for(lambda: again.poll() is not None or nodes.runs_trial(WORKER))
    assert again.poll() is None, again.communicate()[0]
    nodes.kill(WORKER)
    output, _ = again.communicate(timeout=PATIENCE)
    assert again.returncode == 0, output
    assert "Traceback" not in output
    missing = len(Store(reference).completed()) - len(done)
    assert f"{missing} computed, {len(done)} there before, 0 missing" in output
    assert_same_rows(reference, results)
    rows = run_query(results, "SELECT DISTINCT node, ray_trial_id, git_commit FROM measurements").to_pylist()
    assert {row["node"].split("(")[1].rstrip(")") for row in rows} <= {HEAD, WORKER}
    assert all(row["ray_trial_id"] for row in rows)
    (local,) = run_query(reference, "SELECT DISTINCT git_commit FROM measurements").to_pylist()
    assert {row["git_commit"] for row in rows} == {local["git_commit"]}, "as in the checkout it came from"

    code, output = call(nodes, "jobs")
    assert code == 0
    states = [line.split()[1::2][:3] for line in output.splitlines() if "submitted-" in line]
    assert [words[1:] for words in states] == [["submitted", "succeeded"], ["submitted", "stopped"]]
    assert states[1][0] == first


def test_imagenet_dithering_outlives_a_node(nodes: Cluster, data_root: Path, tmp_path: Path) -> None:
    """One trial per network, whose shards run on two nodes that share nothing but the results folder."""
    path, results, reference = tmp_path / "imagenet.yaml", tmp_path / "results", tmp_path / "reference"
    data = YAML(typ="safe").load(EXAMPLES.joinpath("imagenet_dithering.yaml").read_text())
    data["dataset"] |= {"root": str(data_root / "imagenet-sample" / "val"), "limit": 12}
    data["model"][0]["name"] = ["torchvision/resnet18", "torchvision/swin_t"]
    data["mechanism"]["noise_scale"] = [0.5, 2, 32]
    data["measures"][1] |= {"images": 2, "restarts": 1, "rounds": 1, "max_iterations": 4}
    data["execution"] = {"shards": 2, "cpus_per_trial": 1, "threads": 1, "max_failures": 3}
    YAML(typ="safe").dump({**data, "device": "cpu"}, path)
    assert run(path, results=reference, local=True, mirror=False).exit_code == 0

    nodes.start_node(OTHER)
    nodes.wait_for_node(OTHER)
    job = follow(nodes, path, results)
    # else the quicker node does all of so little work before the other has imported torch
    wait_for(lambda: job.poll() is not None or all([nodes.hold(HEAD), nodes.hold(OTHER)]))
    assert job.poll() is None, job.communicate()[0]
    nodes.release(OTHER)
    wait_for(lambda: any(nodes.cache(OTHER).glob("images/*/*")))  # it has read images of its own
    nodes.kill(OTHER)
    nodes.release(HEAD)
    output, _ = job.communicate(timeout=PATIENCE)
    assert job.returncode == 0, output
    assert_same_rows(reference, results)
    assert any(nodes.cache(HEAD).glob("images/*/*"))
    assert not (results / "cache" / "images").exists()


def test_a_mistake_that_only_the_cluster_sees_ends_with_the_exit_code_of_the_run(
    nodes: Cluster, tmp_path: Path
) -> None:
    (tmp_path / "missing.yaml").write_text(MISSING)
    code, output = call(
        *(nodes, "submit", tmp_path / "missing.yaml", "--results", tmp_path / "results"),
        *("--no-mlflow", "--follow"),
    )
    assert code == 2, output
    assert "cannot read the data root '/nowhere/images'" in " ".join(output.split())
    assert "Traceback" not in output
    assert not (tmp_path / "results").exists()


def test_with_json_jobs_are_documents(nodes: Cluster, tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)

    def document(*words: object) -> Any:
        done = subprocess.run(
            command(*words, "--json", "--address", nodes.dashboard),
            env=environment(nodes),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    results = tmp_path / "results"
    submitted = document("submit", tmp_path / "slow.yaml", "--results", results, "--no-mlflow")
    job = submitted.pop("job")
    assert submitted == {"sweep": "submitted", "address": nodes.dashboard, "results": str(results)}
    (found,) = [one for one in document("jobs") if one["job"] == job]
    assert (found["sweep"], found["exit_code"]) == ("submitted", None)
    assert found["state"] in ("PENDING", "RUNNING")
    assert datetime.fromisoformat(found["since"]) <= datetime.now(UTC)
    ended = document("stop", job)
    assert ended == {**found, "state": "STOPPED", "exit_code": 130}
    assert ended in document("jobs")


def test_a_wrong_token_is_refused_in_a_sentence(nodes: Cluster, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("f" * 64)
    wrong = {"RAY_AUTH_TOKEN_PATH": str(tmp_path / "token")}
    code, output = call(nodes, "jobs", **wrong)
    assert code == 2
    assert re.fullmatch(r"error: --address \S+: the cluster does not accept this token; .*\n", output), output


def test_an_unknown_job_is_refused_in_a_sentence(nodes: Cluster) -> None:
    code, output = call(nodes, "logs", "nobody-1a2b3c4d")
    assert code == 2
    assert re.fullmatch(r"error: .*Job nobody-1a2b3c4d does not exist.*\n", output), output


def test_no_token_is_sent_where_there_is_none_to_send(nodes: Cluster) -> None:
    done = subprocess.run(
        command("jobs", "--address", nodes.dashboard, "--insecure"),
        env={name: value for name, value in os.environ.items() if not name.startswith("RAY_")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "does not accept this token" in done.stderr


def test_a_missing_extra_names_the_line_that_installs_it() -> None:
    code = (
        "import sys; sys.modules['aiohttp_cors'] = None\n"
        "sys.argv = ['hushsweep', 'jobs', '--address', 'http://127.0.0.1:1', '--insecure']\n"
        "from hushsweep.sweeps.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].endswith("pip install 'hushsweep[cluster]'"), done.stderr


ROOT_LINE = "dataset: {name: mnist, root: data}"
WEIGHTS_LINE = "model: {name: digits_mlp, weights: [random, own/weights.safetensors]}"
CLIENT = "mechanism: {name: ani, weights: client.safetensors}"


@pytest.mark.parametrize(
    ("lines", "options", "said"),
    [
        ([], ["--results", "results"], "--results results: expected an absolute path"),
        ([], ["--address", "127.0.0.1:6379"], "expected the dashboard of the cluster's head node, http://"),
        ([], ["--address", "http://127.0.0.1:1"], "no Ray dashboard answers there: "),
        ([ROOT_LINE], [], "bad.yaml:3: dataset.root: expected an absolute path, got 'data'"),
        ([WEIGHTS_LINE], [], "bad.yaml:4: model.weights[1]: expected an absolute path, got 'own/weights"),
        ([CLIENT], [], "bad.yaml:5: mechanism.weights: expected an absolute path, got 'client.safe"),
        (["device: tpu"], [], "device: expected"),
    ],
)
def test_mistakes_are_refused_before_anything_is_sent(
    lines: list[str],
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = SWEEP
    for line in lines:
        text = re.sub(rf"^{line.split(':')[0]}: .*$", line, text, flags=re.MULTILINE)
    (tmp_path / "bad.yaml").write_text(text)
    monkeypatch.setenv("RAY_AUTH_MODE", "token")
    monkeypatch.setenv("RAY_AUTH_TOKEN", "0" * 64)
    given = {"--address": "http://127.0.0.1:1", "--results": "/shared/results"}
    given |= dict(zip(options[::2], options[1::2], strict=True))
    words = [word for pair in given.items() for word in pair]
    found = CliRunner().invoke(app, ["submit", str(tmp_path / "bad.yaml"), *words], catch_exceptions=False)
    assert found.exit_code == 2
    assert said in found.output
    assert all(line.startswith("error: ") for line in found.output.splitlines())


def test_a_cluster_is_not_reached_without_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"):
        monkeypatch.delenv(name, raising=False)
    for words in (["jobs"], ["logs", "a-job"], ["stop", "a-job"]):
        found = CliRunner().invoke(app, [*words, "--address", "http://127.0.0.1:1"])
        assert found.exit_code == 2
        assert "no Ray token is set" in found.output
