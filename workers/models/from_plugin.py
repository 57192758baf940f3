"""A network from someone else's package: ``package.module:Name``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn

from hushsweep.datasets.plugins import import_plug_in
from hushsweep.workers.errors import PlugInError
from hushsweep.workers.models.architectures import Preset, Published, no_published_weights
from hushsweep.workers.models.cuts import Cut, MethodCut
from hushsweep.workers.models.graphs import cut_graph, trace


@dataclass(frozen=True)
class PlugInArchitecture:
    """Anything that gives an ``nn.Module`` when called with ``num_classes`` and ``in_channels``."""

    name: str
    make: Callable[..., nn.Module]

    @classmethod
    def find(cls, name: str) -> PlugInArchitecture:
        """Import the module and take the name from it.

        Raises:
            PlugInError: it is not there, fails on import, or is nothing to call.
        """
        try:
            make = import_plug_in(name)
        except (ImportError, AttributeError, ValueError) as error:
            raise PlugInError(
                f"model {name!r} cannot be imported: {error}; expected 'package.module:Name', importable here"
            ) from error
        except (Exception, SystemExit) as error:  # other people's code raises anything
            reason = " ".join(f"{type(error).__name__}: {error}".split())
            raise PlugInError(f"model {name!r}: its module fails on import, {reason}; mend it") from error
        if not callable(make):
            raise PlugInError(f"model {name!r} is a {type(make).__name__}, which cannot be called")
        return cls(name, make)

    def preset(self, weights: str) -> Preset:
        """Everything is the data set's."""
        del weights
        return Preset()

    def published(self, weights: str) -> Published:
        """There are none."""
        raise no_published_weights(self.name, weights)

    def build(self, *, num_classes: int, in_channels: int, side: int) -> nn.Module:
        """Call it; the network has to cope with the size of its input."""
        del side
        network = self.make(num_classes=num_classes, in_channels=in_channels)
        if not isinstance(network, nn.Module):
            raise PlugInError(f"model {self.name!r} gave a {type(network).__name__}, not a torch.nn.Module")
        return network

    def build_published(self, published: Published, *, in_channels: int, side: int) -> nn.Module:
        """There are none."""
        raise no_published_weights(self.name, published.label)

    def natural_cut(self, network: nn.Module) -> Cut:
        """Between ``forward_features`` and ``forward_head`` if it has them, else before its last pooling."""
        if hasattr(network, "forward_features") and hasattr(network, "forward_head"):
            return MethodCut(network)
        traced = trace(network)
        cut = cut_graph(traced, traced.before_last_pooling()) if traced else None
        if cut is None:
            raise PlugInError(
                f"model {self.name!r} has no cut 'features': give it the methods forward_features and "
                "forward_head, or name a module as the cut"
            )
        return cut
