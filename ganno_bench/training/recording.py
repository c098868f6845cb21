"""Records the operations of a function on tensors once, as a graph, and replays them."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor, fx
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.weak import WeakTensorKeyDictionary

__all__ = ["Recorded", "blank", "record", "simplify", "trace"]

Recorded = Callable[..., tuple[Tensor, ...]]
"""Tensors of the recorded shapes and strides -> the results of the function."""

_LAYOUT = "layout"  # key of shape, strides and dtype of a node's tensor


def record(function: Callable[..., Sequence[Tensor]], inputs: Sequence[Tensor]) -> Recorded:
    """Return the recorded function; see `trace`."""
    replayed: Recorded = trace(function, inputs).forward
    return replayed


def trace(
    function: Callable[..., Sequence[Tensor]],
    inputs: Sequence[Tensor],
    replacements: Mapping[Any, Callable[..., Any]] = MappingProxyType({}),
) -> fx.GraphModule:
    """Record a function as a graph, without operations that change nothing.

    The function is called once, with zeros. Tensors that it uses, other than its inputs, become constants of the graph.

    Args:
        function: Takes tensors and returns tensors. It must not branch on their values.
        inputs: Tensors with the shapes, strides, dtypes and device to record; they are not changed.
        replacements: Operations and functions to record in their place. A function takes the arguments of its
            operation, and returns NotImplemented to leave it as it is.
    """
    zeros = [blank(tensor) for tensor in inputs]
    recorder = _Recorder(zeros, replacements)
    with recorder:
        outputs = function(*zeros)
    recorder.graph.output(tuple(recorder.node(output) for output in outputs))
    simplify(recorder.graph)
    return fx.GraphModule(recorder.constants, recorder.graph)


def blank(tensor: Tensor) -> Tensor:
    """Return zeros, which are also valid classes and tokens, with the memory layout of a tensor."""
    extent = 1 + sum((size - 1) * step for size, step in zip(tensor.shape, tensor.stride(), strict=True))
    return tensor.new_zeros(extent).as_strided(tensor.shape, tensor.stride())


class _Recorder(TorchDispatchMode):
    """Records each dispatched operation; under `torch.func`, the operations that result from its transforms.

    `make_fx` records the same operations, but takes six to ten times as long, because it also infers shapes and tracks
    modules and symbols.
    """

    def __init__(self, inputs: Sequence[Tensor], replacements: Mapping[Any, Callable[..., Any]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._replacements = replacements
        self.graph = fx.Graph()
        self.constants: dict[str, Tensor] = {}
        self._nodes: WeakTensorKeyDictionary = WeakTensorKeyDictionary()
        for number, tensor in enumerate(inputs):
            self._keep(tensor, self.graph.placeholder(f"input_{number}"))

    def node(self, value: Any) -> Any:
        """Return the node of a tensor, and any other value as it is."""
        if not isinstance(value, Tensor):
            return value
        if value not in self._nodes:
            name = f"constant_{len(self.constants)}"
            self.constants[name] = value
            self._keep(value, self.graph.create_node("get_attr", name))
        return self._nodes[value]

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if (replacement := self._replacements.get(func)) is not None:
            with self:  # to record what it calls
                output = replacement(*args, **(kwargs or {}))
            if output is not NotImplemented:
                return output
        own_args, own_kwargs = fx.node.map_aggregate((args, dict(kwargs or {})), self.node)
        output = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.lift_fresh.default:  # the result of `torch.tensor`, which may be changed in place
            func = torch.ops.aten.lift_fresh_copy.default
        node = self.graph.call_function(func, own_args, own_kwargs)
        if isinstance(output, Tensor):
            self._keep(output, node)
        elif isinstance(output, list | tuple):
            for index, part in enumerate(output):
                if isinstance(part, Tensor):
                    self._keep(part, self.graph.call_function(operator.getitem, (node, index)))
        return output

    def _keep(self, tensor: Tensor, node: fx.Node) -> None:
        node.meta[_LAYOUT] = (tensor.shape, tensor.stride(), tensor.dtype)
        self._nodes[tensor] = node


def simplify(graph: fx.Graph) -> None:
    """Remove operations that change nothing. Vectorising leaves many of them.

    Their dispatch costs a few microseconds each: a fifth of an update with small networks.
    """
    aten = torch.ops.aten
    reshaping = {aten.view, aten._unsafe_view, aten.expand, aten.slice, aten.slice_backward}
    for node in graph.nodes:
        if node.op != "call_function" or not node.args or not isinstance(node.args[0], fx.Node):
            continue
        source, operation = node.args[0], getattr(node.target, "overloadpacket", None)
        if _LAYOUT not in source.meta or _LAYOUT not in node.meta:
            continue
        same = source.meta[_LAYOUT] == node.meta[_LAYOUT]
        if (operation in reshaping and same) or (node.target is aten.mul.Scalar and node.args[1] == 1 and same):
            node.replace_all_uses_with(source)
        elif node.target is source.target is aten.transpose.int and set(node.args[1:]) == set(source.args[1:]):
            node.replace_all_uses_with(source.all_input_nodes[0])
    graph.eliminate_dead_code()
