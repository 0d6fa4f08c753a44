"""Record the kernels that a function calls, as Python calls them, and play them back without the Python between."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, fx
from torch.fx.node import map_aggregate
from torch.overrides import TorchFunctionMode

from ..core.compat import whole
from ..core.modes import recorded

# Functions that tell a tensor's form, and nothing of its values.
FORM = set(
    "size dim numel nelement ndimension stride storage_offset is_contiguous is_signed is_complex is_floating_point "
    "element_size data_ptr untyped_storage get_device type __len__ __hash__ is_inference is_conj is_neg result_type can_cast "
    "promote_types is_tensor is_nested is_same_size is_shared is_pinned dense_dim sparse_dim has_names _is_view "
    "_is_zerotensor broadcast_shapes".split()
)
# Functions whose result has a shape that depends on values.
SHAPED_BY_VALUES = {"nonzero", "masked_select", "unique", "unique_consecutive", "_unique2", "argwhere", "bincount"}


class Recorder(TorchFunctionMode):
    """While it is entered, what is computed of the inputs and of the known tensors is noted.

    It computes all the same. `refused` tells why the calls cannot be played back: they look at values.
    """

    def __init__(self, inputs: list[Tensor], known: list[Tensor]):
        super().__init__()
        self.graph, self.refused = fx.Graph(), ""
        self.inputs, self.known = inputs, known
        self.alive: list[Any] = [*inputs, *known]  # lest another tensor get the identity of one that is gone
        self.nodes = {id(t): self.graph.placeholder(f"t{i}") for i, t in enumerate(self.alive)}

    def __enter__(self) -> Recorder:
        self.hidden = recorded()
        self.hidden.__enter__()
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        super().__exit__(*error)
        self.hidden.__exit__(*error)

    def __torch_function__(self, function: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        kwargs = whole(function, kwargs)
        result = function(*args, **kwargs)
        if not self.refused:
            self.note(function, args, kwargs, result)
        return result

    def player(self, results: list[Tensor]) -> Callable[[Iterable[Tensor]], tuple] | None:
        """What computes the results again, of other inputs; None where that was refused."""
        if self.refused:
            return None
        self.graph.output(tuple([self.node(t) for t in results]))
        self.graph.eliminate_dead_code(_has_effect)
        if self.refused:
            return None
        play, known = fx.GraphModule({}, self.graph).forward, self.known
        return lambda inputs: play(*inputs, *known)

    def note(self, function: Any, args: tuple, kwargs: dict, result: Any) -> None:
        name = getattr(function, "__name__", str(function))
        if name == "_set_grad_enabled":
            return
        if name in ("__get__", "__set__", "__delete__"):
            attribute = function.__self__.__name__
            if name != "__get__":
                if attribute != "grad":
                    self.refused = f"{attribute} of a tensor is set"
            elif isinstance(result, Tensor) and id(result) not in self.nodes:
                self.keep(result, self.graph.call_function(getattr, (self.node(args[0]), attribute)))
            return
        several = isinstance(result, (tuple, list)) and any(isinstance(t, Tensor) for t in result)
        if not (isinstance(result, Tensor) or several or result is None):
            if name not in FORM:
                self.refused = f"{name} looks at values"
            return
        by_mask = name == "__getitem__" and _has_mask(args[1])
        if name in SHAPED_BY_VALUES or by_mask or (name == "where" and len(args) + len(kwargs) == 1):
            self.refused = f"{name} makes a shape of values"
            return
        given = map_aggregate(args, self.node)
        named = {key: map_aggregate(value, self.node) for key, value in kwargs.items()}
        if self.refused:
            return
        if name in ("__getitem__", "__setitem__"):
            node = self.graph.call_function(operator.getitem if name == "__getitem__" else operator.setitem, given)
        elif args and isinstance(args[0], Tensor) and function is getattr(Tensor, name, None):
            node = self.graph.call_method(name, given, named)
        else:
            node = self.graph.call_function(function, given, named)
        if several:
            for i, t in enumerate(result):
                if isinstance(t, Tensor):
                    self.keep(t, self.graph.call_function(operator.getitem, (node, i)))
        elif result is not None:
            self.keep(result, node)

    def keep(self, tensor: Tensor, node: fx.Node) -> None:
        if id(tensor) not in self.nodes:  # else it was changed in place
            self.nodes[id(tensor)] = node
            self.alive.append(tensor)

    def node(self, value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:
            self.refused = f"a tensor of shape {tuple(value.shape)} comes from elsewhere"
            return None
        return self.nodes[id(value)]


def _has_effect(node: fx.Node) -> bool:
    """Whether it changes something: a tensor, a generator of random numbers."""
    name = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", "")
    random = ("rand", "normal", "bernoulli", "multinomial", "poisson", "dropout", "exponential", "uniform")
    return (
        node.op in ("placeholder", "output")
        or (name.endswith("_") and not name.endswith("__"))
        or name == "setitem"
        or "out" in node.kwargs
        or any(part in name for part in random)
    )  # fmt: skip


def _has_mask(index: Any) -> bool:
    parts = index if isinstance(index, tuple) else (index,)
    return any(isinstance(part, Tensor) and part.dtype in (torch.bool, torch.uint8) for part in parts)
