"""Models in which only some sites are quantized, made quickly from one that is prepared once."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import onnx_ir as ir

from optc.passbase import Context, Feeds
from optc.passes.quantize import dynamic, tables, weight_only
from optc.passes.quantize.static import Settings, saturation
from optc.passes.quantize.static.partly import StaticPart
from optc.passes.quantize.static.sites import Site, find

# The sites, by name, and those of them that get fewer bits where the scheme knows that.
Prepared = Callable[[Collection[str], Collection[str]], ir.Model]


def dynamically(
    smoothed: ir.Model,
    ctx: Context,
    *,
    per_channel: bool,
    bits: Callable[[Collection[str]], Mapping[str, int]],
    group: int,
) -> Prepared:
    """Dynamic int8 at some products of a model whose inputs are smoothed already; biases stay as they are.

    Args:
        bits: given those that get fewer, the bits of weights in blocks of ``group`` rows, by site.
    """

    def made(names: Collection[str], coarser: Collection[str]) -> ir.Model:
        copy, in_blocks = smoothed.clone(), bits(coarser)
        for count in sorted(set(in_blocks.values())):
            sites = named(copy, [name for name in names if in_blocks.get(name) == count])
            weight_only.quantize_weights(copy, sites, None, ctx, bits=count, group=group, method="rtn")
        dynamic.insert(copy, named(copy, names), per_channel=per_channel)  # the others are no sites any more
        return copy

    return made


def in_weights(model: ir.Model, ctx: Context, *, bits: int, group: int) -> Prepared:
    """Weights of some products rounded to nearest."""

    def made(names: Collection[str], _: Collection[str]) -> ir.Model:
        copy = model.clone()
        sites = named(copy, names)
        weight_only.quantize_weights(copy, sites, None, ctx, bits=bits, group=group, method="rtn")
        return copy

    return made


def statically(model: ir.Model, samples: Sequence[Feeds], ctx: Context, settings: Settings) -> Prepared:
    """Static int8 around some sites; all ranges are taken once."""
    part = StaticPart(model, samples, ctx, settings, saturation.largest_code())
    return lambda names, _: part.of(names)


def and_tables(prepared: Prepared, known: Collection[str]) -> Prepared:
    """Tables of embeddings beside the products; ``known`` are those that there are."""

    def made(names: Collection[str], coarser: Collection[str]) -> ir.Model:
        model, others = prepared(names, coarser), set(known) - set(names)
        tables.quantize(model, lambda name: "not asked for" if name in others else None)
        return model

    return made


def named(model: ir.Model, names: Collection[str]) -> list[Site]:
    """The sites with these names."""
    return [site for site in find(model)[0] if site.name in names]
