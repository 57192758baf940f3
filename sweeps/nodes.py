"""The nodes of a Ray cluster: what each can do, and what has to be mended before a sweep runs on all of them."""

import secrets
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from hushsweep.datasets.results import StoreError, bucket_address, results_folder
from hushsweep.datasets.results.files import remove, write_atomically
from hushsweep.sweeps import probe as probing
from hushsweep.sweeps.address import check_token
from hushsweep.sweeps.driver import ray_cluster
from hushsweep.sweeps.errors import RunError

_PATIENCE = 120.0
"""Seconds in which a node has to answer; a cold one starts Python and imports torch first."""
_LEAST_FREE_GB = 5


@dataclass(frozen=True, kw_only=True)
class Node:
    """A node of a cluster as it sees itself."""

    host: str
    cpus: float
    gpus: float
    """As Ray counts them."""
    found: dict[str, Any] | None
    """What the probe says; None from a node that does not answer."""


def check_nodes(address: str, results: Path, *, insecure: bool) -> list[dict[str, Any]]:
    """Look at every node of a cluster.

    Returns:
        Of each ``node`` its ``versions``, ``devices``, ``data`` folder and how ``results`` are reached, in words; its
        ``mends``; and whether a sweep can run there (``healthy``).

    Raises:
        RunError: no token is set, no cluster answers, or the results folder cannot be written here.
    """
    check_token(insecure=insecure)
    bucket, place = bucket_address(results), _place(results)
    with ray_cluster(address):
        nodes = _ask(place, results_folder(bucket) if bucket else Path(place))
    names = ("versions", "devices", "data", "results")
    mends = [list(_mends(node, nodes[0], place)) for node in nodes]
    return [
        {
            "node": node.host,
            **dict(zip(names, _cells(node), strict=True)),
            "mends": mend,
            "healthy": not mend,
        }
        for node, mend in zip(nodes, mends, strict=True)
    ]


def print_nodes(found: list[dict[str, Any]], results: Path, console: Console) -> None:
    """Print what :func:`check_nodes` found, a row per node."""
    table = Table("node", "versions", "devices", "HUSHSWEEP_DATA", escape(_place(results)), "mend")
    for row in found:
        cells = (row["node"], row["versions"], row["devices"], row["data"], row["results"])
        table.add_row(*map(escape, (*cells, "\n".join(row["mends"]))))
    console.print(table)


def _place(results: Path) -> str:
    """The results as all nodes call them: a bucket, or the folder or that which will hold it."""
    return bucket_address(results) or str(_nearest(results.expanduser().absolute()))


def _nearest(folder: Path) -> Path:
    return next(place for place in (folder, *folder.parents) if place.is_dir())


def _ask(place: str, folder: Path) -> list[Node]:
    """Ask every alive node by a task of its own; the first is the one that we are on.

    Args:
        place: the results, as all nodes call them.
        folder: the same on this machine.
    """
    import ray
    from ray import cloudpickle
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    mark, content = f".hushsweep-{secrets.token_hex(8)}", secrets.token_hex(8)
    here = ray.get_runtime_context().get_node_id()
    alive = sorted((node for node in ray.nodes() if node["Alive"]), key=lambda node: node["NodeID"] != here)
    try:
        write_atomically(folder / mark, lambda stream: stream.write(content.encode()))
    except StoreError as error:
        raise RunError(f"--results: {error}") from error
    cloudpickle.register_pickle_by_value(probing)  # a node without hushsweep has to answer, too
    try:
        # no CPU, so that a busy node answers; all GPUs to be seen, although none is reserved
        task = ray.remote(num_cpus=0, runtime_env={"env_vars": {"RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}})(
            probing.probe
        )
        asked = {
            node["NodeID"]: task.options(
                scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False), max_retries=0
            ).remote(place, mark, content)
            for node in alive
        }
        ray.wait(list(asked.values()), num_returns=len(asked), timeout=_PATIENCE)
        return [_node(node, asked[node["NodeID"]]) for node in alive]
    finally:
        cloudpickle.unregister_pickle_by_value(probing)
        remove(folder / mark)


def _node(node: dict[str, Any], asked: Any) -> Node:
    import ray

    try:
        found = ray.get(asked, timeout=0)
    except ray.exceptions.RayError:  # it has died, or is too slow
        found = None
    resources = node["Resources"]
    return Node(
        host=node["NodeManagerAddress"],
        cpus=resources.get("CPU", 0.0),
        gpus=resources.get("GPU", 0.0),
        found=found,
    )


def _cells(node: Node) -> tuple[str, str, str, str]:
    found = node.found
    if found is None:
        return "-", f"{node.cpus:g} CPU, {node.gpus:g} GPU", "-", "no answer"
    versions = "\n".join(f"{name} {number or 'missing'}" for name, number in found["versions"].items())
    names = f"\n{', '.join(found['gpus'])}" if found["gpus"] else ""
    data = found["data"] or "not set"
    free = "" if found["free"] is None else f", {found['free'] / 1e9:.0f} GB free"
    return (
        versions,
        f"{node.cpus:g} CPU, {node.gpus:g} GPU{names}",
        data if found["data_there"] or not found["data"] else f"{data}: cannot be read",
        found["results"] or f"shared{free}",
    )


def _mends(node: Node, ours: Node, place: str) -> Iterator[str]:
    """What has to be done on a node; versions are compared with those of the node that asks."""
    if node.found is None:
        yield f"no answer within {_PATIENCE:.0f} s: see Ray's logs there, or restart its ray"
        return
    wanted = ours.found["versions"] if ours.found else {}
    yield from _version_mends(node.found["versions"], wanted)
    if node.gpus and not node.found["gpus"]:
        yield "Ray offers GPUs, torch sees none: install a torch with CUDA, or start ray with --num-gpus=0"
    data = ours.found["data"] if ours.found else None
    if node.found["data"] and not node.found["data_there"]:
        yield "set HUSHSWEEP_DATA to a readable folder before 'ray start'"
    elif data and not node.found["data"]:
        yield "set HUSHSWEEP_DATA before 'ray start', as on the other nodes"
    if node.found["results"] and place.startswith("s3://"):
        yield "pip install 'hushsweep[s3]' there, and set AWS_... before 'ray start', as on the node that asks"
    elif node.found["results"]:
        yield f"mount the file system of {place} there, writable"
    elif node.found["free"] is not None and node.found["free"] < _LEAST_FREE_GB * 1e9:
        yield "free some disk space"


def _version_mends(found: dict[str, str | None], wanted: dict[str, str | None]) -> Iterator[str]:
    for name, number in found.items():
        other = wanted.get(name)
        if number is None and name == "hushsweep":
            yield "pip install hushsweep there, or use 'hushsweep submit', which brings it along"
        elif number is None:
            yield f"pip install '{name}{'==' + other if other else ''}' there"
        elif other is not None and number != other:
            install = f"install Python {other}" if name == "python" else f"pip install '{name}=={other}'"
            yield f"{install} there: {number} differs from the node that asks"
