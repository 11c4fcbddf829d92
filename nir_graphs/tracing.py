"""From a module to a sequence of calls (torch.fx), and from these to nodes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Self

from torch import fx, nn

from zoo.errors import ExportError
from zoo.nir_graphs.rules import MODULE_RULES, lower_function, lower_module
from zoo.nir_graphs.values import Builder, Value

_FRAMEWORKS = ("torch.nn.", "snntorch.", "norse.", "spikingjelly.", "sinabs.")


def is_leaf(module: nn.Module) -> bool:
    """Whether to lower a module as a whole: it has a rule, or it is a framework's own and not just a container."""
    if type(module) in MODULE_RULES:
        return True
    if isinstance(module, nn.Sequential | nn.ModuleList | nn.ModuleDict):
        return False
    # neurons derive from a framework's class without living in it; their loops over time cannot be traced anyway
    bases = [base for base in type(module).__mro__ if base is not nn.Module]
    return any(f"{base.__module__}.".startswith(_FRAMEWORKS) for base in bases)


class _Symbol(fx.Proxy):
    """A traced tensor. torch.fx would record ``x += y`` as ``x + y``, which is wrong where x has a second name."""

    def __iadd__(self, other: object) -> Self:
        raise TypeError("x += y changes a tensor in place; write x = x + y")


class ModuleTracer(fx.Tracer):
    """Goes into modules until it meets a leaf.

    Attributes:
        failed: path of the innermost module in which tracing failed, if it did.
    """

    def __init__(self) -> None:
        super().__init__()
        self.failed = ""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        """See :func:`is_leaf`."""
        del module_qualified_name
        return is_leaf(m)

    def proxy(self, node: fx.Node) -> _Symbol:
        """The symbol that stands for a node's result."""
        return _Symbol(node, self)

    def call_module(
        self, m: nn.Module, forward: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> Any:
        """Remember where it went wrong, if it does."""
        try:
            return super().call_module(m, forward, args, kwargs)
        except Exception:
            self.failed = self.failed or self.path_of_module(m)
            raise


def trace(module: nn.Module) -> fx.Graph:
    """The calls that a module makes, without those whose result it does not use.

    Raises:
        ExportError: its control flow depends on tensors or their shapes; the message names the module.
    """
    tracer = ModuleTracer()
    try:
        graph = tracer.trace(module)
    except Exception as error:  # whatever a user's forward raises on symbolic tensors
        where = f"the module {tracer.failed!r}" if tracer.failed else f"the module ({type(module).__name__})"
        raise ExportError(
            f"{where} cannot be exported: tracing it failed ({error}). Branches and loops must not depend on tensors or "
            "their shapes; keep such code outside the exported module"
        ) from error
    graph.eliminate_dead_code(lambda node: node.op in {"placeholder", "output"})
    return graph


def _path(node: fx.Node) -> str:
    """Path of the module whose ``forward`` made a call; "" is the outermost one."""
    stack: dict[str, tuple[str, type]] = node.meta.get("nn_module_stack") or {}
    return next(reversed(stack.values()))[0] if stack else ""


def lower(builder: Builder, module: nn.Module, given: Value) -> list[Value]:
    """Lower everything that a module does to its input; returns its outputs, first to last.

    Raises:
        ExportError: see :func:`trace`, :func:`lower_module` and :func:`lower_function`; or several inputs, or outputs that
            are not tensors.
    """
    values: dict[fx.Node, Any] = {}
    for node in trace(module).nodes:
        args = fx.map_arg(node.args, values.__getitem__)
        kwargs = fx.map_arg(node.kwargs, values.__getitem__)
        if node.op == "placeholder":
            if values:
                raise ExportError(f"the module must take one tensor, but also takes {node.target!r}")
            values[node] = given
        elif node.op == "call_module":
            inner = module.get_submodule(str(node.target))
            values[node] = lower_module(builder, inner, str(node.target), [*args, *kwargs.values()])
        elif node.op == "output":
            return _flat(args[0])
        elif node.op == "get_attr":
            raise ExportError(f"the module uses the tensor {node.target!r} outside a layer, which has no NIR form")
        else:
            values[node] = lower_function(builder, node.target, _path(node), args, kwargs)
    raise ExportError(f"{type(module).__name__} has no output")


def _flat(result: Any) -> list[Value]:
    """A module's output, which may be one value, or a list or tuple of values."""
    if isinstance(result, Value):
        return [result]
    if not isinstance(result, list | tuple) or not result:
        raise ExportError(f"the module must return tensors or lists of tensors, not {type(result).__name__}")
    return [value for part in result for value in _flat(part)]
