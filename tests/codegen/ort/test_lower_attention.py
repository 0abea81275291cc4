"""Attention computes the same in the runtime's kernels as its body does, for all masks and shapes."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from fused_calls import assert_lowers, call_model, legalized, ops

N, D, DV = 4, 8, 8
LOWEST = float(np.finfo(np.float32).min)


def body(
    masked: str | None,
    *,
    n: int = N,
    nk: int = N,
    d: int = D,
    dv: int = DV,
    causal: bool,
    safe: bool,
    rank4: bool = False,
) -> str:
    """The plain graph; ``masked`` is None, "bool" or "float"."""
    lines = []
    for x, heads, size in (("q", n, d), ("k", nk, d), ("v", nk, dv)):
        if rank4:
            lines.append(f"{x}4 = Identity({x})")
        else:
            lines += [
                f"{x}s = Constant<value_ints=[0, 0, {heads}, {size}]>()",
                f"{x}r = Reshape({x}, {x}s)",
                f"{x}4 = Transpose<perm=[0,2,1,3]>({x}r)",
            ]
    for x, size in (("k", d), ("v", dv)):
        if n == nk:
            lines.append(f"{x}n = Identity({x}4)")
        else:
            lines += [
                f"{x}a = Constant<value_ints=[2]>()",
                f"{x}u = Unsqueeze({x}4, {x}a)",
                f"{x}g = Constant<value_ints=[1,1,{n // nk},1,1]>()",
                f"{x}e = Expand({x}u, {x}g)",
                f"{x}c = Shape<start=2,end=3>({x}4)",
                f"{x}h = Constant<value_ints=[{n}]>()",
                f"{x}b = Shape<start=0,end=1>({x}4)",
                f"{x}z = Constant<value_ints=[{size}]>()",
                f"{x}to = Concat<axis=0>({x}b, {x}h, {x}c, {x}z)",
                f"{x}n = Reshape<allowzero=1>({x}e, {x}to)",
            ]
    lines += [
        "kt = Transpose<perm=[0,1,3,2]>(kn)",
        "sc = Constant<value_float: float=@scale>()",
        "p0 = MatMul(q4, kt)",
        "p1 = Mul(p0, sc)",
        "zero = Constant<value_float=0.0>()",
        "one = Constant<value_float=1.0>()",
        "inf = Div(one, zero)",
        "ninf = Neg(inf)",
    ]
    last = "p1"
    if masked == "bool":
        lines += ["mf = Where(mask, zero, ninf)", "p2 = Add(p1, mf)"]
        last = "p2"
    elif masked == "float":
        lines += ["p2 = Add(p1, mask)"]
        last = "p2"
    if causal:
        lines += [
            f"cs = Shape<start=-2>({last})",
            "ones = ConstantOfShape<value=float[1] {1.0}>(cs)",
            "low = Trilu<upper=0>(ones)",
            "lb = Cast<to=9>(low)",
            "cm = Where(lb, zero, ninf)",
            f"p3 = Add({last}, cm)",
        ]
        last = "p3"
    lines.append(f"w = Softmax<axis=-1>({last})")
    if safe:
        lines += ["nan = IsNaN(w)", "ws = Where(nan, zero, w)"]
    lines.append(f"o = MatMul({'ws' if safe else 'w'}, vn)")
    if rank4:
        lines.append("y = Identity(o)")
    else:
        lines += [
            "ot = Transpose<perm=[0,2,1,3]>(o)",
            f"os = Constant<value_ints=[0,0,{n * dv}]>()",
            "y = Reshape(ot, os)",
        ]
    names = "q, k, v" + (", mask" if masked else "")
    return f"({names}) => (y) {{ " + "; ".join(lines).replace(";", "\n") + " }"


def attention(
    mask: np.ndarray | None = None,
    mask_dims: tuple[int | str, ...] | None = None,
    *,
    n: int = N,
    nk: int = N,
    dv: int = DV,
    causal: int = 0,
    safe: int = 0,
    rank4: bool = False,
    same: bool = False,
    scale: float = 0.3,
    opset: int = 18,
    calls: int = 1,
    code: str = "f",
    queries: int | str = "b",
) -> ir.Model:
    """A model of a call; S and T are dynamic, and the same with ``same``; ``queries`` is their batch."""
    t = "s" if same else "t"
    if rank4:
        inputs = {
            "q": (code, (queries, n, "s", D)),
            "k": (code, ("b", nk, t, D)),
            "v": (code, ("b", nk, t, dv)),
        }
        out = (code, ("b", n, "s", dv))
    else:
        inputs = {
            "q": (code, (queries, "s", n * D)),
            "k": (code, ("b", t, nk * D)),
            "v": (code, ("b", t, nk * dv)),
        }
        out = (code, ("b", "s", n * dv))
    kind = None
    if mask is not None:
        kind = "bool" if mask.dtype == bool else "float"
        inputs["mask"] = (mask.dtype.char, mask_dims if mask_dims is not None else mask.shape)
    attributes = {"scale": scale, "causal": causal, "safe": safe}
    if not rank4:
        attributes |= {"num_heads": n, "kv_num_heads": nk}
    text = body(kind, n=n, nk=nk, dv=dv, causal=bool(causal), safe=bool(safe), rank4=rank4)
    name = "Attention" if rank4 else "MultiHeadAttention"
    return call_model(name, inputs, text, attributes, [out], opset=opset, calls=calls)


def feeds(
    b: int,
    s: int,
    t: int,
    *,
    n: int = N,
    nk: int = N,
    dv: int = DV,
    rank4: bool = False,
    mask: np.ndarray | None = None,
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(b * 100 + s * 10 + t)
    shapes = {"q": (b, n, s, D), "k": (b, nk, t, D), "v": (b, nk, t, dv)}
    made = {}
    for name, shape in shapes.items():
        x = rng.standard_normal(shape, dtype=np.float32)
        merged = (shape[0], shape[2], shape[1] * shape[3])
        made[name] = x if rank4 else np.ascontiguousarray(x.transpose(0, 2, 1, 3)).reshape(merged)
    return made | ({} if mask is None else {"mask": mask})


def make_mask(dims: tuple[int, ...], kind: str) -> np.ndarray:
    """Some positions masked; the first row altogether where there is more than one."""
    rng = np.random.default_rng(sum(dims))
    keep = rng.random(dims) < 0.7
    keep[..., 0] = True
    if keep.size > keep.shape[-1]:
        keep.reshape(-1, keep.shape[-1])[0] = False
    if kind == "bool":
        return keep
    low = -np.inf if kind == "inf" else LOWEST
    return np.where(keep, rng.standard_normal(dims), low).astype(np.float32)


MASKS = [
    (),
    (5,),
    (1,),
    (4, 5),
    (4, 1),
    (1, 5),
    (N, 4, 5),
    (1, 4, 5),
    (N, 1, 5),
    (3, 1, 1, 5),
    (3, 1, 4, 5),
    (3, N, 4, 5),
    (1, N, 4, 5),
    (1, 1, 1, 5),
    (3, 1, 4, 1),
    (3, N, 1, 5),
]


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("causal", [0, 1])
@pytest.mark.parametrize("kind", [None, "bool", "lowest"])
def test_queries_that_all_of_the_batch_has_in_common(kind: str | None, causal: int, rank4: bool) -> None:
    """The opset is one without ai.onnx.Attention, so it is the kernel of com.microsoft."""
    mask = None if kind is None else make_mask((3, 1, 1, 5), kind)
    model = attention(mask, causal=causal, safe=1, rank4=rank4, queries=1)
    given = feeds(3, 4, 5, rank4=rank4, mask=mask)
    lowered = assert_lowers(model, {**given, "q": given["q"][:1]})
    assert "MultiHeadAttention" in ops(lowered)


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("safe", [0, 1])
@pytest.mark.parametrize("kind", ["bool", "inf", "lowest"])
@pytest.mark.parametrize("dims", MASKS, ids=str)
def test_masks_of_every_form(dims: tuple[int, ...], kind: str, safe: int, rank4: bool) -> None:
    mask = make_mask(dims or (1,), kind).reshape(dims)
    assert_lowers(attention(mask, safe=safe, rank4=rank4), feeds(3, 4, 5, rank4=rank4, mask=mask))


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("safe", [0, 1])
@pytest.mark.parametrize("kind", [None, "bool", "inf"])
@pytest.mark.parametrize(
    "s,t,same", [(5, 5, True), (5, 5, False), (3, 7, False), (7, 3, False), (1, 1, True)]
)
def test_causal_is_aligned_at_the_top_left(
    s: int, t: int, same: bool, kind: str | None, safe: int, rank4: bool
) -> None:
    mask = None if kind is None else make_mask((3, 1, s, t), kind)
    model = attention(mask, causal=1, safe=safe, same=same, rank4=rank4)
    assert_lowers(model, feeds(3, s, t, rank4=rank4, mask=mask))


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("b,s,t", [(3, 1, 9), (0, 4, 5), (3, 0, 5), (1, 7, 1)])
def test_odd_and_empty_shapes(b: int, s: int, t: int, rank4: bool) -> None:
    assert_lowers(attention(rank4=rank4), feeds(b, s, t, rank4=rank4))


@pytest.mark.parametrize("rank4", [False, True])
@pytest.mark.parametrize("n,nk,dv", [(4, 2, 8), (4, 1, 8), (6, 3, 4), (4, 4, 16)])
def test_grouped_heads_and_other_value_sizes(n: int, nk: int, dv: int, rank4: bool) -> None:
    model = attention(n=n, nk=nk, dv=dv, rank4=rank4)
    assert_lowers(model, feeds(3, 4, 5, n=n, nk=nk, dv=dv, rank4=rank4))


@pytest.mark.parametrize(
    "dims", [("b", 1, 1, "t"), ("b", 1, "s", "t"), ("x", 1, "y", "z"), ("b", N, "s", "t")], ids=str
)
def test_dynamic_mask_is_made_once_for_all_layers(dims: tuple[int | str, ...]) -> None:
    sizes = {"b": 3, "s": 4, "t": 5, "x": 3, "y": 4, "z": 5}
    mask = make_mask(tuple(sizes[d] if isinstance(d, str) else d for d in dims), "bool")
    model = attention(mask, dims, safe=1, calls=3)
    lowered = assert_lowers(model, feeds(3, 4, 5, mask=mask))
    assert ops(lowered).count("MultiHeadAttention") == 3
    assert ops(lowered).count("ReduceMax") == 1
    assert ops(lowered).count("Expand") == (0 if dims[2:] == ("s", "t") else 1)


def test_fixed_lengths_need_no_shape_arithmetic() -> None:
    mask = make_mask((3, 1, 1, 5), "lowest")
    model = attention(mask, same=True)
    for value in (*model.graph.inputs[:3], *model.graph.outputs):
        value.shape = ir.Shape([3, 5, value.shape[2]])
    assert ops(assert_lowers(model, feeds(3, 5, 5, mask=mask))) == ["Expand", "MultiHeadAttention"]


def test_fitting_float_mask_goes_in_as_it_is() -> None:
    mask = make_mask((3, 1, 4, 5), "inf")
    lowered = assert_lowers(attention(mask, ("b", 1, "s", "t")), feeds(3, 4, 5, mask=mask))
    assert ops(lowered) == ["MultiHeadAttention"]


def test_causal_without_mask_over_one_length_needs_no_bias() -> None:
    assert ops(assert_lowers(attention(causal=1, same=True), feeds(3, 5, 5))) == ["MultiHeadAttention"]


@pytest.mark.parametrize("opset", [13, 14, 17, 20, 23])
def test_older_and_newer_opsets(opset: int) -> None:
    mask = make_mask((3, 1, 1, 5), "bool")
    lowered, report = legalized(attention(mask, safe=1, opset=opset), attention="MultiHeadAttention")
    assert "MultiHeadAttention" in ops(lowered)
    assert not report.skipped


def test_half_precision_is_inlined_and_says_why() -> None:
    lowered, report = legalized(attention(code="e"))
    assert "Softmax" in ops(lowered)
    assert {skip.node for skip in report.skipped} == {"call0"}
    reason = "no CPU kernel of com.microsoft.MultiHeadAttention for float16"
    assert any(reason in skip.reason for skip in report.skipped)


def test_scale_zero_is_refused() -> None:
    lowered, report = legalized(attention(scale=0.0))
    assert "Softmax" in ops(lowered)
    assert any("scale of 0" in skip.reason for skip in report.skipped)


def test_undone_family_is_inlined() -> None:
    lowered, report = legalized(attention(), attention="inline")
    assert "MultiHeadAttention" not in ops(lowered)
    assert report.detail["inlined"] == {"MultiHeadAttention": 1}


def projected(biased: tuple[bool, bool, bool], shared: bool = False) -> ir.Model:
    """Attention whose query, key and value are products of one input, some with a bias."""
    model = attention(causal=1, same=True)
    call = next(iter(model.graph))
    rng = np.random.default_rng(7)
    x = model.graph.inputs[0]
    for i, has_bias in enumerate(biased):
        arrays = {f"w{i}": rng.standard_normal((N * D, N * D)), f"b{i}": rng.standard_normal(N * D)}
        made = {}
        for name, array in arrays.items():
            tensor = ir.tensor(array.astype(np.float32), name=name)
            made[name] = ir.Value(
                name=name, shape=tensor.shape, type=ir.TensorType(tensor.dtype), const_value=tensor
            )
            model.graph.register_initializer(made[name])
        product = ir.node("MatMul", [x, made[f"w{i}"]])
        nodes = [product]
        if has_bias:
            nodes.append(ir.node("Add", [made[f"b{i}"], product.outputs[0]]))
        model.graph.insert_before(call, nodes)
        result = nodes[-1].outputs[0]
        result.shape, result.type = x.shape.copy(), x.type
        call.replace_input_with(i, result)
        if shared and has_bias:
            model.graph.outputs.append(result)
    del model.graph.inputs[1:]
    return model


@pytest.mark.parametrize("biased", [(True, True, True), (True, False, True), (False, False, False)], ids=str)
def test_projection_biases_move_into_the_kernel(biased: tuple[bool, bool, bool]) -> None:
    x = {"q": feeds(3, 5, 5)["q"]}
    lowered = assert_lowers(projected(biased), x)
    assert ops(lowered) == ["MatMul"] * 3 + ["MultiHeadAttention"]
    assert (list(lowered.graph)[-1].inputs[3:4] != ()) == any(biased)


def test_projection_bias_that_others_need_stays() -> None:
    lowered = assert_lowers(projected((True, True, True), shared=True), {"q": feeds(3, 5, 5)["q"]})
    assert ops(lowered).count("Add") == 3
