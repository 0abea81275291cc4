"""Graphs in torch's own cache of what dynamo has traced, for users who switch that cache on.

Tracing is most of what a process does before its first result when the executable comes from our cache. With
``torch._dynamo.config.caching_precompile`` torch keeps traces and guards on disk, and a backend has to keep
what it made of them: here the graph, so that the executable is found as it is after tracing.
"""

from __future__ import annotations

import copy
import logging
import pickle
from typing import Any

from torch import fx
from torch._dynamo.precompile_context import BackendCacheArtifact, PrecompileContext
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.fx._graph_pickler import GraphPickler
from torch.fx._graph_pickler import Options as PicklerOptions
from torch.fx.experimental.symbolic_shapes import ShapeEnv

from .compiled import Compiled
from .graph import Graph
from .options import Options

_log = logging.getLogger(__name__)
_KEPT = "stack_trace"  # of what is noted at a node: the line to name in messages


class Artifact(BackendCacheArtifact[Any]):
    """A graph as bytes; torch makes it a callable before anything is called."""

    def after_deserialization(self) -> Compiled:
        """The graph as it was when dynamo handed it over."""
        state = pickle.loads(self.content)
        module: Any = GraphPickler.loads(state["module"], FakeTensorMode(shape_env=ShapeEnv()))
        module.recompile()
        return Compiled(Graph.restored(module, state["facts"]), state["options"], grad=state["grad"])


def record(graph: Graph, options: Options, grad: bool) -> None:
    """Hands the graph to torch's cache; one that cannot be kept is traced again, and a warning says why."""
    key = getattr(graph.module, "_backend_id", None)
    if key is None:
        return  # not called by dynamo
    if graph.attributes:
        _log.warning("a graph is not kept in torch's cache: it holds tensors of its own")
        return
    try:
        module = GraphPickler.dumps(_bare(graph.module), PicklerOptions(ops_filter=None))
        state = {"module": module, "facts": graph.facts(), "options": options, "grad": grad}
        PrecompileContext.record_artifact(Artifact(key=key, content=pickle.dumps(state)))
    except (pickle.PicklingError, TypeError, AttributeError, AssertionError, NotImplementedError) as error:
        _log.warning("a graph is not kept in torch's cache: %s", error)


def _bare(module: fx.GraphModule) -> fx.GraphModule:
    """A copy without what dynamo noted at the nodes, most of which cannot be pickled."""
    bare = copy.deepcopy(module)
    for part in bare.modules():
        for node in part.graph.nodes if isinstance(part, fx.GraphModule) else ():
            node.meta = {_KEPT: node.meta[_KEPT]} if _KEPT in node.meta else {}
    return bare
