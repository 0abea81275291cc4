"""The rules of `axes`: where each operator puts the axis of the tokens."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from optc import rewrite
from optc.analysis import axes_moves, axes_pointwise, axes_products
from optc.analysis.axes_layout import Mixes, Step
from optc.analysis.axes_operands import Layouts


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


_ELEMENTWISE = _names(
    """
    Add Sub Mul Div Pow Mod Max Min Mean Sum Where And Or Xor Equal Greater GreaterOrEqual Less
    LessOrEqual PRelu BitShift BitwiseAnd BitwiseOr BitwiseXor
    """
)
_UNARY = _names(
    """
    Abs Cast CastLike Ceil Celu Clip Cos Dropout Elu Erf Exp Floor Gelu HardSigmoid HardSwish
    Identity IsInf IsNaN LeakyRelu Log Mish Neg Not Reciprocal Relu Round Selu Shrink Sigmoid Sign
    Sin Softplus Softsign Sqrt Swish Tanh ThresholdedRelu QuantizeLinear DequantizeLinear
    DynamicQuantizeLinear
    """
)
_ALONG_AN_AXIS = _names("Softmax LogSoftmax Hardmax LpNormalization CumSum")
_NORMS = _names("LayerNormalization RMSNormalization SimplifiedLayerNormalization")
_REDUCTIONS = _names(
    """
    ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum
    ReduceLogSumExp ReduceSumSquare
    """
)
_REGROUPING = _names("Reshape Flatten Squeeze Unsqueeze")
_PRODUCTS = _names("MatMul MatMulInteger")
ATTENTIONS = frozenset({"Attention", "CappedAttention"})


def step(node: ir.Node, layouts: Layouts) -> Step:
    """What ``node``, which reads tokens, does to them.

    Raises:
        Mixes: it computes across tokens, or has no rule.
    """
    if rewrite.kind(node) in ATTENTIONS:
        return axes_products.attention(node, layouts)
    rule = _RUNTIME.get(node.op_type) if node.domain == "com.microsoft" else None
    if node.domain in ("", "ai.onnx"):
        rule = _RULES.get(node.op_type)
    if rule is None:
        raise Mixes(f"{node.op_type} has no rule for the axis of tokens")
    done = rule(node, layouts)
    for layout in done.outputs:
        if layout is not None and sum(f.role == "token" for g in layout.groups for f in g) != 1:
            raise Mixes(f"{node.op_type} pairs tokens with tokens")
    return done


_RULES: dict[str, Callable[[ir.Node, Layouts], Step]] = {
    **dict.fromkeys(_ELEMENTWISE, axes_pointwise.elementwise),
    **dict.fromkeys(_UNARY, axes_pointwise.unary),
    **dict.fromkeys(_ALONG_AN_AXIS, axes_pointwise.along_an_axis),
    **dict.fromkeys(_NORMS, axes_pointwise.norm),
    **dict.fromkeys(_REDUCTIONS, axes_pointwise.reduction),
    **dict.fromkeys(_REGROUPING, axes_moves.regrouping),
    **dict.fromkeys(_PRODUCTS, axes_products.product),
    "Transpose": axes_moves.transpose,
    "Expand": axes_moves.expand,
    "Gemm": axes_products.gemm,
    "Concat": axes_moves.concat,
    "Split": axes_moves.split,
    "Gather": axes_moves.gather,
    "Slice": axes_moves.slice_,
}

_RUNTIME: dict[str, Callable[[ir.Node, Layouts], Step]] = dict.fromkeys(
    ("MatMulNBits", "MatMulIntegerToFloat", "DynamicQuantizeMatMul"), axes_products.packed_product
)
