"""Models in which only some sites are quantized, made quickly from one that is prepared once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import onnx_ir as ir

from optc.passbase import Context, Feeds
from optc.passes.quantize import dynamic, tables, weight_only
from optc.passes.quantize.static import Settings, saturation
from optc.passes.quantize.static.partly import StaticPart
from optc.passes.quantize.static.sites import Site, find

Prepared = Callable[[Collection[str]], ir.Model]


def dynamically(smoothed: ir.Model, *, per_channel: bool) -> Prepared:
    """Dynamic int8 at some products of a model whose inputs are smoothed already; biases stay as they are."""

    def made(names: Collection[str]) -> ir.Model:
        copy = smoothed.clone()
        dynamic.insert(copy, named(copy, names), per_channel=per_channel)
        return copy

    return made


def in_weights(model: ir.Model, ctx: Context, *, bits: int, group: int) -> Prepared:
    """Weights of some products rounded to nearest."""

    def made(names: Collection[str]) -> ir.Model:
        copy = model.clone()
        sites = named(copy, names)
        weight_only.quantize_weights(copy, sites, None, ctx, bits=bits, group=group, method="rtn")
        return copy

    return made


def statically(model: ir.Model, samples: Sequence[Feeds], ctx: Context, settings: Settings) -> Prepared:
    """Static int8 around some sites; all ranges are taken once."""
    part = StaticPart(model, samples, ctx, settings, saturation.largest_code())
    return part.of


def and_tables(prepared: Prepared, known: Collection[str]) -> Prepared:
    """Tables of embeddings beside the products; ``known`` are those that there are."""

    def made(names: Collection[str]) -> ir.Model:
        model, others = prepared(names), set(known) - set(names)
        tables.quantize(model, lambda name: "not asked for" if name in others else None)
        return model

    return made


def named(model: ir.Model, names: Collection[str]) -> list[Site]:
    """The sites with these names."""
    return [site for site in find(model)[0] if site.name in names]
