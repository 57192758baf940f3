"""The text of a sweep file: YAML 1.2 read safely, and the line of every value in it."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from hushsweep.sweeps.errors import Problem, SpecError

_LARGEST = 100_000
"""Values that a sweep file may have, each counted as often as aliases repeat it; ten lines can repeat to gigabytes."""
_UNPRINTABLE = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")
"""No path may hold a NUL, a terminal obeys an escape, and half a character cannot be written."""


@dataclass(frozen=True)
class Source:
    """A sweep as read: its name for messages, its text, its data and its YAML nodes."""

    name: str
    text: str
    data: Any
    root: Node | None
    folder: Path
    """Relative paths in the file start here."""

    def report(self, problems: Iterable[Problem]) -> SpecError:
        """Put file, line and field before every message, in the order of the file, each once."""
        located = [(self._locate(problem.location), problem.message) for problem in dict.fromkeys(problems)]
        located.sort(key=lambda item: item[0][0] or 0)
        return SpecError([self._sentence(*place, message) for place, message in located])

    def _sentence(self, line: int | None, location: list[str | int], message: str) -> str:
        place = self.name if line is None else f"{self.name}:{line}"
        sentence = f"{place}: {_spell(location)}: {message}" if location else f"{place}: {message}"
        return "\\n".join(sentence.splitlines())  # names and keys may have line breaks

    def _locate(self, location: tuple[str | int, ...]) -> tuple[int | None, list[str | int]]:
        """Walk the nodes as far as they go; an index into a scalar (a list of one) is left out."""
        node, spelled = self.root, list[str | int]()
        line = None if node is None else node.start_mark.line + 1
        for step in location:
            child = _child(node, step)
            if isinstance(step, int) and child is None and not isinstance(node, SequenceNode):
                continue
            spelled.append(step)
            node = child
            line = line if node is None else node.start_mark.line + 1
        return line, spelled


def read_source(path: Path | str) -> Source:
    """Read a sweep file.

    Raises:
        SpecError: the file is missing, unreadable or not YAML 1.2.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
        raise SpecError(
            [f"{path}: cannot read the sweep file: {reason}; give the path of a YAML file"]
        ) from error
    return parse_source(text, name=str(path), folder=path.parent)


def parse_source(text: str, *, name: str = "sweep", folder: Path | None = None) -> Source:
    """Read the text of a sweep file.

    Raises:
        SpecError: the text is not YAML 1.2, has a key twice, or has more values than a sweep can mean.
    """
    yaml = YAML(typ="safe", pure=True)
    try:
        root = yaml.compose(text)
        _check_nodes(root, name)
        data = YAML(typ="safe", pure=True).load(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{name}:{mark.line + 1}" if mark is not None else name
        problem = (error.problem or error.context or "not YAML").split("\n")[0]
        raise SpecError([f"{place}: not valid YAML 1.2: {problem}"]) from error
    except SpecError:
        raise
    except RecursionError as error:
        raise SpecError([f"{name}: nested too deeply; a sweep file has about five levels"]) from error
    except (YAMLError, ValueError) as error:
        raise SpecError([f"{name}: not valid YAML 1.2: {str(error).splitlines()[0]}"]) from error
    return Source(name=name, text=text, data=data, root=root, folder=folder or Path.cwd())


def _check_nodes(root: Node | None, name: str) -> None:
    if root is not None and not _size(root, {}, name) <= _LARGEST:
        raise SpecError(
            [f"{name}: more than {_LARGEST:,} values, each counted as often as aliases repeat it; write less"]
        )


def _size(node: Node, sizes: dict[int, float], name: str) -> float:
    """Count the values of a node with all that aliases repeat in it: without end where it contains itself."""
    if isinstance(node, ScalarNode):
        found = _UNPRINTABLE.search(str(node.value))
        if found:
            place = f"{name}:{node.start_mark.line + 1}"
            raise SpecError([f"{place}: a text with the character U+{ord(found[0]):04X}; take it out"])
        return 1
    if id(node) not in sizes:
        sizes[id(node)] = float("inf")
        inner = [part for pair in node.value for part in (pair if isinstance(pair, tuple) else (pair,))]
        sizes[id(node)] = 1 + sum(_size(part, sizes, name) for part in inner)
    return sizes[id(node)]


def _child(node: Node | None, step: str | int) -> Node | None:
    if isinstance(node, MappingNode):
        return next((value for key, value in node.value if key.value == step), None)
    if isinstance(node, SequenceNode) and isinstance(step, int) and step < len(node.value):
        found: Node = node.value[step]
        return found
    return None


def _spell(location: list[str | int]) -> str:
    text = ""
    for step in location:
        text += f"[{step}]" if isinstance(step, int) else f".{step}" if text else step
    return text
