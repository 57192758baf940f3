"""What attackers learn, kept by content: learned once, shared by shards and sweeps, taken up where a kill ended it."""

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from filelock import Timeout
from torch import Tensor

from hushsweep.datasets.heartbeat import locked
from hushsweep.datasets.images import ImageSet
from hushsweep.datasets.results.files import kept, remove
from hushsweep.workers.attacks.view import View

_Learned = TypeVar("_Learned")


def learned_once(
    cache: Path,
    digest: str,
    *,
    learn: Callable[[Path], _Learned],
    store: Callable[[Path, _Learned], None],
    load: Callable[[Path], _Learned],
    wait: bool = True,
) -> _Learned | None:
    """Learn something, or find it learned.

    Args:
        cache: the folder of what can be used again; ``attackers/<digest>.safetensors`` in it is the file.
        digest: of all that it depends on.
        learn: given the place of its checkpoint.
        store: writes it to a file.
        load: reads it from there.
        wait: for another worker that learns the same; else return None at once.
    """
    path = cache / "attackers" / f"{digest}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with locked(path.with_name(f".{digest}.lock"), wait=wait):
            if not kept(path):
                checkpoint = cache / "checkpoints" / digest
                store(path, learn(checkpoint))
                remove(checkpoint)
            return load(path)
    except Timeout:
        return None


def identity_of(view: View, parts: Sequence[ImageSet]) -> dict[str, Any]:
    """Everything that what is learned of a view depends on, but for how it is learned; nothing of what is reported."""
    left_out = ("images", "data", "split", "limit")
    return {
        **{name: value for name, value in view.subject.key.items() if name not in left_out},
        "parts": [
            {"images": part.path.name, "data": part.info.fingerprint, "size": len(part)} for part in parts
        ],
        "chain": [[stage.at, _identity(stage.mechanism, view)] for stage in view.point.stages],
        "leaves": view.point.leaves,
        "seed": view.point.seed,
        "queries": view.queries,
        "masked": view.masked,
    }


def _identity(mechanism: Any, view: View) -> str:
    """What a mechanism is, in words that are the same in every process; else the point that has it."""
    if is_dataclass(mechanism):
        values = {field.name: getattr(mechanism, field.name) for field in fields(mechanism) if field.compare}
        text = f"{type(mechanism).__qualname__}{values!r}"
        if (
            not any(isinstance(value, (Tensor, np.ndarray)) for value in values.values())
            and " at 0x" not in text
        ):
            return text
    return view.point.point_id


def unrepeated(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Every tensor of a state once: the halves of a network may name those of the whole again."""
    tensors, seen = dict[str, Tensor](), set[tuple[int, Any]]()
    for name, tensor in state.items():
        key = (tensor.data_ptr(), tensor.shape)
        if tensor.numel() and key in seen:
            continue
        seen.add(key)
        tensors[name] = tensor
    return tensors
