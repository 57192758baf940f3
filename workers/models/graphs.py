"""Cut a network at any tensor of its torch.fx graph, so that the head runs only what comes after it."""

import inspect
import math
import operator
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm.layers
import torchvision
from torch import Tensor, fx, nn
from torch.nn.functional import adaptive_avg_pool2d

from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.cuts import Cut, one_tensor

Call = tuple[tuple[Any, ...], Any]  # what one run of a module got (positional arguments) and gave


@dataclass(frozen=True)
class Trace:
    """A network's graph; and for every module path what went in and came out, run by run."""

    network: nn.Module
    graph: fx.Graph
    calls: dict[str, list[Call]]

    def entering(self, path: str) -> fx.Node:
        """The tensor that enters a module."""
        return _tensor_node(self._only_call(path)[0][0], path)

    def leaving(self, path: str) -> fx.Node:
        """The tensor that leaves a module."""
        return _tensor_node(self._only_call(path)[1], path)

    def before_last_pooling(self) -> fx.Node:
        """The tensor that the last global pooling averages over its positions."""
        pooled = [node.args[0] for node in self.graph.nodes if self._is_pooling(node)]
        if not pooled:
            raise PlugInError(
                f"{type(self.network).__name__} has no global pooling, so no cut 'features'; "
                "name a module as the cut instead"
            )
        return _tensor_node(pooled[-1], "features")

    def _only_call(self, path: str) -> Call:
        calls = self.calls.get(path, [])
        if len(calls) != 1:
            raise PlugInError(
                f"cut {path!r}: this module runs {len(calls)} times per image, so it is no one place; "
                "choose a module that runs once"
            )
        return calls[0]

    def _is_pooling(self, node: fx.Node) -> bool:
        if node.op == "call_module":
            return isinstance(self.network.get_submodule(str(node.target)), nn.AdaptiveAvgPool2d)
        return node.target in ("mean", adaptive_avg_pool2d)


def _tensor_node(value: Any, path: str) -> fx.Node:
    node = value.node if isinstance(value, fx.Proxy) else value
    if not isinstance(node, fx.Node):
        raise PlugInError(f"cut {path!r}: there is not one tensor at this place; choose another module")
    return node


class _Tracer(fx.Tracer):
    """Goes into every module but torch's own and those timm declares opaque, and notes each module's runs."""

    def __init__(self) -> None:
        functions = tuple(timm.layers.get_notrace_functions())
        modules: Any = (math, torchvision.ops)  # some versions of torch are annotated as taking exactly one
        super().__init__(autowrap_modules=modules, autowrap_functions=functions)
        # What drops whole branches asks whether it is training, which a trace would answer once and for all.
        dropping = (torchvision.ops.StochasticDepth, timm.layers.DropPath)
        self.opaque = (*timm.layers.get_notrace_modules(), *dropping)
        self.calls: dict[str, list[Call]] = {}

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return isinstance(m, self.opaque) or super().is_leaf_module(m, module_qualified_name)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        result = super().call_module(m, forward, args, kwargs)
        self.calls.setdefault(self.path_of_module(m), []).append((args, result))
        return result


def trace(network: nn.Module) -> Trace | None:
    """Trace a network in eval mode; None if its code cannot run on symbols (it branches on values, say)."""
    tracer = _Tracer()
    optional = {
        name: parameter.default
        for name, parameter in inspect.signature(network.forward).parameters.items()
        if parameter.default is not parameter.empty
    }
    try:
        graph = tracer.trace(network, concrete_args=optional)
    except Exception:  # any code may run here, and raises whatever a symbol upsets
        return None
    # Writing into a slice of a tensor is an edge that the graph does not show.
    if any(node.target is operator.setitem for node in graph.nodes):
        return None
    return Trace(network, graph, tracer.calls)


class GraphCut(Cut):
    """A traced network cut at one tensor; ``cut_graph`` makes it."""

    def __init__(self, prefix: fx.GraphModule, suffix: fx.GraphModule) -> None:
        super().__init__()
        self.prefix = prefix
        self.suffix = suffix

    def features(self, x: Tensor) -> Tensor:  # noqa: D102
        return one_tensor(self.prefix(x), "the activation at the cut")

    def head(self, a: Tensor) -> Tensor:  # noqa: D102
        return one_tensor(self.suffix(a), "the network's output")


def cut_graph(traced: Trace, node: fx.Node) -> GraphCut | None:
    """Cut at one tensor; None if the output needs anything else of what comes before, even a size."""
    (output,) = (node.args[0] for node in traced.graph.nodes if node.op == "output")
    prefix = _subgraph(traced.graph, node, held=None)
    suffix = _subgraph(traced.graph, _tensor_node(output, "output"), held=node)
    if any(node.op == "placeholder" and node.target != HELD for node in suffix.nodes):
        return None
    return GraphCut(fx.GraphModule(traced.network, prefix), fx.GraphModule(traced.network, suffix))


HELD = "held_at_the_cut"


def _subgraph(graph: fx.Graph, output: fx.Node, *, held: fx.Node | None) -> fx.Graph:
    """What computes ``output`` from the input, given the tensor ``held`` as an input of its own."""
    needed: set[fx.Node] = set()
    todo = [output]
    while todo:
        node = todo.pop()
        if node not in needed:
            needed.add(node)
            todo += [] if node is held else node.all_input_nodes
    new = fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    for node in graph.nodes:
        if node is held:
            copies[node] = new.placeholder(HELD)
        elif node in needed:
            copies[node] = new.node_copy(node, copies.__getitem__)
    new.output(copies[output])
    return new
