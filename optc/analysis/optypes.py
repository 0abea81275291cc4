"""What operators are for, as far as the analyses care: who does the arithmetic, who only moves data."""

from __future__ import annotations


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONVOLUTIONS = _names(
    """
    Conv ConvTranspose DeformConv ConvInteger QLinearConv FusedConv NhwcConv NhwcFusedConv
    """
)
RECURRENT = _names("LSTM GRU RNN DynamicQuantizeLSTM")
MATMULS = _names(
    """
    MatMul Gemm Einsum MatMulInteger QLinearMatMul FusedMatMul FusedGemm QGemm MatMulNBits MatMulFpQ4
    MatMulBnb4 MatMulIntegerToFloat DynamicQuantizeMatMul TransposeMatMul
    """
)
ATTENTIONS = _names(
    """
    Attention MultiHeadAttention GroupQueryAttention QAttention PackedAttention SparseAttention
    PackedMultiHeadAttention DecoderAttention LongformerAttention PagedAttention LinearAttention
    DecoderMaskedSelfAttention DecoderMaskedMultiHeadAttention QOrderedAttention
    """
)
EXPERTS = frozenset({"MoE", "QMoE"})
HEAVY = CONVOLUTIONS | RECURRENT | MATMULS | ATTENTIONS | EXPERTS  # what a block is built around

SUMS = frozenset({"Add", "Sum"})
LOOKUPS = frozenset({"Gather", "GatherND", "GatherElements", "GatherBlockQuantized"})

# Their results say something about the data (its extent, its order, a test), and do not carry it.
NO_DATA_OUT = _names(
    """
    Shape Size ArgMax ArgMin NonZero IsNaN IsInf Equal Greater GreaterOrEqual Less LessOrEqual And Or
    Not Xor ConstantOfShape EyeLike Range
    """
)

# No bytes move: the runtime gives the same buffer another shape (or only reads the shape).
VIEWS = _names("Reshape Squeeze Unsqueeze Flatten Identity Dropout Shape Size")
MOVES = _names(
    """
    Transpose Concat Split Slice Gather GatherND GatherElements Scatter ScatterND ScatterElements Expand
    Tile Pad Cast CastLike DepthToSpace SpaceToDepth ReverseSequence Compress Where ConstantOfShape
    Constant Range OneHot NonZero EyeLike Trilu Unique TensorScatter BitCast
    """
)
# They read as much as they write, whatever the size of the table that they read from.
READS_WHAT_IT_WRITES = _names("Gather GatherND GatherElements Slice Compress")

REDUCTIONS = _names(
    """
    ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceSumSquare ArgMax ArgMin CumSum CumProd GlobalAveragePool GlobalMaxPool GlobalLpPool TopK
    """
)
POOLS = _names("AveragePool MaxPool LpPool")
# Operations per output element where it is not one, counted from their definition (an exp or erf is one).
PER_ELEMENT = {
    "Softmax": 5, "LogSoftmax": 6, "Hardmax": 2, "LayerNormalization": 8, "RMSNormalization": 5,
    "SimplifiedLayerNormalization": 5, "BatchNormalization": 2, "InstanceNormalization": 8,
    "GroupNormalization": 8, "LpNormalization": 4, "MeanVarianceNormalization": 6, "Gelu": 5, "FastGelu": 9,
    "BiasGelu": 6, "QuickGelu": 4, "HardSwish": 4, "HardSigmoid": 3, "Swish": 4, "Mish": 4, "Celu": 4,
    "Elu": 3, "Selu": 4, "LeakyRelu": 2, "ThresholdedRelu": 1, "PRelu": 2, "Sigmoid": 3, "Softplus": 3,
    "Softsign": 3, "SkipLayerNormalization": 9, "SkipSimplifiedLayerNormalization": 6, "QuantizeLinear": 3,
    "DequantizeLinear": 2, "DynamicQuantizeLinear": 5, "RotaryEmbedding": 3, "LRN": 6, "Resize": 4, "Clip": 2,
    "GridSample": 8,
}  # fmt: skip
ONE_PER_ELEMENT = _names(
    """
    Abs Acos Acosh Add And Asin Asinh Atan Atanh BitShift BitwiseAnd BitwiseNot BitwiseOr BitwiseXor
    Ceil Cos Cosh Div Equal Erf Exp Floor Greater GreaterOrEqual IsInf IsNaN Less LessOrEqual Log Max
    Mean Min Mod Mul Neg Not Or Pow Reciprocal Relu Round Shrink Sign Sin Sinh Sqrt Sub Sum Tan Tanh Xor
    """
)
