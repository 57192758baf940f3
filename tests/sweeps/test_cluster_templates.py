"""Launch templates, as far as they can be held to something without a cloud: schemas, linters, our own command line."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import typer
from ruamel.yaml import YAML

from hushsweep.sweeps.cli import app

ROOT = Path(__file__).parent.parent.parent
FOLDER = ROOT / "sweeps" / "cluster"
TEMPLATES = sorted(path for path in FOLDER.iterdir() if path.is_file() and path.suffix != ".py")
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
RAY_UP = ["aws.yaml", "on_premise.yaml"]


def load(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe", pure=True).load((FOLDER / name).read_text())
    return loaded


def test_the_templates_are_those_that_the_guide_explains() -> None:
    guide = (ROOT / "docs" / "multi-node.md").read_text()
    assert len(TEMPLATES) == 5
    for path in TEMPLATES:
        assert f"sweeps/cluster/{path.name}" in guide, path.name


def validate_ray_up(config: dict[str, Any]) -> None:
    from ray.autoscaler._private.util import prepare_config, validate_config

    validate_config(prepare_config(config))


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_accepts_its_files_and_no_unknown_key(name: str) -> None:
    validate_ray_up(load(name))
    with pytest.raises(jsonschema.ValidationError, match="setup_comands"):
        validate_ray_up({**load(name), "setup_comands": []})


@pytest.mark.parametrize("name", RAY_UP)
def test_ray_up_starts_every_node_with_the_token_and_the_dashboard_on_loopback(name: str) -> None:
    config = load(name)
    (token,) = (there for there, here in config["file_mounts"].items() if here.endswith("/ray_token"))
    for role in ("head", "worker"):
        start = config[f"{role}_start_ray_commands"][-1]
        assert "RAY_AUTH_MODE=token" in start
        assert f"RAY_AUTH_TOKEN_PATH={token.replace('~', '$HOME')}" in start
        assert "HUSHSWEEP_DATA=" in start
        assert subprocess.run(["bash", "-n", "-c", start]).returncode == 0
    assert "--dashboard-host=127.0.0.1" in config["head_start_ray_commands"][-1]


def test_the_security_group_of_aws_opens_ssh_alone() -> None:
    (rule,) = load("aws.yaml")["provider"]["security_group"]["IpPermissions"]
    assert (rule["FromPort"], rule["ToPort"]) == (22, 22)
    assert "0.0.0.0/0" not in [each["CidrIp"] for each in rule["IpRanges"]]


@pytest.mark.parametrize("name", RAY_UP)
def test_options_of_ray_start_exist(name: str) -> None:
    for role in ("head", "worker"):
        check_ray_options(load(name)[f"{role}_start_ray_commands"][-1].split("ray start ")[1])


def check_ray_options(line: str) -> None:
    """Every option is one of 'ray start'."""
    from ray.scripts.scripts import start

    known = {option for parameter in start.params for option in parameter.opts}
    for word in shlex.split(line):
        assert not word.startswith("-") or word.split("=")[0] in known, word


def test_the_slurm_script_is_sound_and_its_ray_line_parses() -> None:
    script = FOLDER / "slurm.sbatch"
    assert subprocess.run(["bash", "-n", script]).returncode == 0
    shellcheck = shutil.which("shellcheck") or Path(sys.executable).with_name("shellcheck")
    done = subprocess.run([shellcheck, script], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout
    text = script.read_text().replace("\\\n", " ")
    options, entrypoint = re.findall(r"ray symmetric-run (.*) -- +(.*)", text)[0]
    check_ray_options(re.sub(r"--(address|min-nodes) \S+", "", options))
    assert entrypoint.startswith("hushsweep run ")
    for directive in ("--exclusive", "--ntasks-per-node=1", "--signal=INT@"):
        assert f"#SBATCH {directive}" in text


def test_the_slurm_script_makes_a_token_that_only_its_user_reads(tmp_path: Path) -> None:
    """Run it to its end with commands of Slurm and Ray that only say how they were called."""
    programs = tmp_path / "hushsweep" / "bin"
    programs.mkdir(parents=True)
    (programs / "activate").write_text(f'PATH="{programs}:$PATH"\n')
    (programs / "python").symlink_to(sys.executable)
    for name, body in (("scontrol", 'printf "one\\ntwo\\n"'), ("srun", 'echo "$RAY_AUTH_MODE" "$@"')):
        (programs / name).write_text(f"#!/bin/bash\n{body}\n")
        (programs / name).chmod(0o755)
    environment = {"HOME": str(tmp_path), "PATH": "/usr/bin:/bin", "SLURM_JOB_NODELIST": "x"}
    done = subprocess.run(
        ["bash", FOLDER / "slurm.sbatch", "a b.yaml", "/shared/results"],
        env={**environment, "SLURM_JOB_NUM_NODES": "2"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    token = tmp_path / ".local" / "state" / "hushsweep" / "ray_token"
    assert (token.stat().st_mode & 0o777, len(token.read_text())) == (0o600, 64)
    assert done.stdout.startswith("token --nodes=2")
    assert "--address one:6379 --min-nodes 2" in done.stdout
    assert "hushsweep run a b.yaml --results /shared/results --address auto" in done.stdout


JOB_KEYS = {
    "entrypoint", "runtimeEnvYAML", "shutdownAfterJobFinishes", "ttlSecondsAfterFinished", "backoffLimit",
    "rayClusterSpec",
}  # fmt: skip
CONTAINER_KEYS = {"name", "image", "env", "resources", "ports", "volumeMounts"}


def test_the_rayjob_has_the_structure_that_kuberay_asks_for() -> None:
    job = load("kuberay_rayjob.yaml")
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    assert job.keys() == {"apiVersion", "kind", "metadata", "spec"}
    assert job["spec"].keys() == JOB_KEYS
    cluster = job["spec"]["rayClusterSpec"]
    assert cluster.keys() == {"rayVersion", "authOptions", "headGroupSpec", "workerGroupSpecs"}
    assert cluster["authOptions"] == {"mode": "token"}
    head, workers = cluster["headGroupSpec"], cluster["workerGroupSpecs"]
    assert head.keys() == {"rayStartParams", "template"}
    for group in workers:
        assert group.keys() == {
            "groupName", "replicas", "minReplicas", "maxReplicas", "rayStartParams", "template",
        }  # fmt: skip
        assert group["minReplicas"] <= group["replicas"] <= group["maxReplicas"]
    for group in (head, *workers):
        check_pod(group["template"]["spec"])
        assert all(isinstance(value, str) for value in group["rayStartParams"].values())
    environment = YAML(typ="safe", pure=True).load(job["spec"]["runtimeEnvYAML"])["env_vars"]
    assert all(isinstance(value, str) for value in environment.values())
    assert environment["RAY_JOB_STOP_SIGNAL"] == "SIGINT"
    assert job["spec"]["entrypoint"].startswith("hushsweep run ")


def check_pod(pod: dict[str, Any]) -> None:
    assert pod.keys() == {"securityContext", "containers", "volumes"}
    assert pod["securityContext"]["runAsNonRoot"] is True
    volumes = {volume["name"] for volume in pod["volumes"]}
    for container in pod["containers"]:
        assert container.keys() <= CONTAINER_KEYS
        assert re.fullmatch(r"\S+/\S+:[\w.-]+", container["image"])
        assert container["resources"]["limits"].keys() >= {"cpu", "memory"}
        assert {mount["name"] for mount in container["volumeMounts"]} == volumes
        for variable in container["env"]:
            assert isinstance(variable["value"], str)


def test_the_image_is_pinned_runs_as_no_root_and_holds_no_secret() -> None:
    lines = [line for line in (FOLDER / "Containerfile").read_text().splitlines() if line]
    instructions = [line.split(maxsplit=1) for line in lines if not line.startswith("#")]
    names = [name for name, _ in instructions]
    assert set(names) <= {"FROM", "COPY", "RUN", "ENV", "USER"}
    assert (names[0], names[-1]) == ("FROM", "USER")
    assert instructions[-1][1] not in ("0", "root")
    assert re.fullmatch(r"\S+/ray:\d+\.\d+\.\d+\S*", instructions[0][1])
    for _, value in instructions:
        assert not re.search(r"(?i)token|passw|secret|credential|_key", value), value


def test_one_ray_version_in_all_templates() -> None:
    image = re.findall(r"/ray:(\d+\.\d+\.\d+)", (FOLDER / "Containerfile").read_text())
    assert image == [load("kuberay_rayjob.yaml")["spec"]["rayClusterSpec"]["rayVersion"]]


def command_lines() -> Iterator[tuple[str, list[str]]]:
    """Every command line of ours in templates and documents, up to what a shell or a remark makes of the rest."""
    for path in [*TEMPLATES, *DOCUMENTS]:
        text = path.read_text().replace("\\\n", " ")
        if path.suffix == ".md":
            blocks = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL))
            found = re.findall(r"^(?:\S*/)?hushsweep ([a-z].*)$", blocks, flags=re.MULTILINE)
            found += re.findall(r"`hushsweep ([a-z][^`]*)`", text)
        else:
            found = re.findall(r"(?:^|[ \t])hushsweep ([a-z]+ .*--.*)$", text, flags=re.MULTILINE)
        for line in found:
            yield path.name, words_of(line)


def words_of(line: str) -> list[str]:
    words: list[str] = []
    for word in shlex.split(re.split(r" {3,}| #", line)[0], comments=False):
        if word in (">", "|", "&&", ";"):
            break
        words.append(word.rstrip(";"))
        if word.endswith(";"):
            break
    return words


@pytest.mark.parametrize(("place", "words"), [*command_lines()], ids=lambda value: str(value)[:60])
def test_every_command_line_parses(place: str, words: list[str]) -> None:
    command = typer.main.get_command(app)
    found = command.commands[words[0]]  # type: ignore[attr-defined]
    if len(words) > 1:  # else it only names the command
        found.make_context(words[0], words[1:], resilient_parsing="--help" in words)
