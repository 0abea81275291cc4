"""One product in int8, several ways: what a scale per row, or weights in three parts, cost and save.

python benchmarks/int8_products.py [SECONDS]
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort

SHAPES = ((32, 384, 1536), (128, 384, 1536), (128, 768, 768), (128, 768, 3072))
RNG = np.random.default_rng(0)
INT8 = "com.microsoft.MatMulIntegerToFloat"
Arrays = dict[str, np.ndarray]


def session(nodes: str, arrays: Arrays, rows: int, columns: int) -> ort.InferenceSession:
    """A session on two threads of a graph x -> y."""
    text = f"""<ir_version: 10, opset_import: ["": 21, "com.microsoft": 1]>
    g (float[M,{rows}] x) => (float[M,{columns}] y) {{ {nodes} }}"""
    proto = onnx.parser.parse_model(text)
    for name, array in arrays.items():
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.asarray(array), name))
    options = ort.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 2, 3
    return ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])


def codes(weight: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """int8 codes and a scale per column."""
    scale = np.maximum(np.abs(weight).max(axis=0), 1e-12) / np.float32(127)
    return np.rint(weight / scale).astype(np.int8), scale


def one_scale(weight: np.ndarray, bias: np.ndarray) -> tuple[str, Arrays]:
    """One scale for the input."""
    q, scale = codes(weight)
    nodes = f"c, s, z = DynamicQuantizeLinear(x)  y = {INT8}(c, q, s, scale, z, , bias)"
    return nodes, {"q": q, "scale": scale, "bias": bias}


def by_row(weight: np.ndarray, bias: np.ndarray) -> tuple[str, Arrays]:
    """A scale for each row of the input, of plain operators around the int8 product."""
    q, scale = codes(weight)
    nodes = f"""a = Abs(x)  m = ReduceMax<keepdims=1>(a, last)  n = Max(m, tiny)  d = Div(x, n)
    c = QuantizeLinear(d, step, middle)  p = {INT8}(c, q, step, scale, middle)
    r = Mul(p, n)  y = Add(r, bias)"""
    fixed = {"last": np.array([-1]), "tiny": np.float32(1e-30), "step": np.float32(1 / 127)}
    return nodes, {"q": q, "scale": scale, "bias": bias, "middle": np.uint8(128), **fixed}


def by_block(weight: np.ndarray, bias: np.ndarray, block: int = 128) -> tuple[str, Arrays]:
    """MatMulNBits with 8 bits, which rounds the input in blocks."""
    rows, columns = weight.shape
    blocks = weight.T.reshape(columns, -1, block)
    scale = np.abs(blocks).max(axis=2) / np.float32(127)
    q = (np.rint(blocks / scale[:, :, None]) + 128).astype(np.uint8)
    attributes = f"<K={rows}, N={columns}, bits=8, block_size={block}, accuracy_level=4>"
    nodes = f"y = com.microsoft.MatMulNBits{attributes}(x, q, scale, , , bias)"
    return nodes, {"q": q, "scale": scale, "bias": bias}


def in_three_parts(weight: np.ndarray, bias: np.ndarray) -> tuple[str, Arrays]:
    """The low, the middle and the high weights apart, zeros elsewhere, as SplitQuant has them."""
    centres = np.quantile(weight, [0.1, 0.5, 0.9])
    for _ in range(20):
        part = np.digitize(weight, (centres[1:] + centres[:-1]) / 2)
        centres = np.array([weight[part == i].mean() for i in range(3)])
    nodes, arrays = ["c, s, z = DynamicQuantizeLinear(x)"], {"bias": bias}
    for i in range(3):
        arrays[f"q{i}"], arrays[f"scale{i}"] = codes(np.where(part == i, weight, np.float32(0)))
        nodes.append(f"p{i} = {INT8}(c, q{i}, s, scale{i}, z{', , bias' if i == 0 else ''})")
    return "  ".join([*nodes, "t = Add(p0, p1)  y = Add(t, p2)"]), arrays


def in_float(weight: np.ndarray, bias: np.ndarray) -> tuple[str, Arrays]:
    """What the others are held against."""
    return "y = Gemm(x, w, bias)", {"w": weight, "bias": bias}


FORMS: dict[str, Callable[[np.ndarray, np.ndarray], tuple[str, Arrays]]] = {
    "one scale": one_scale,
    "float": in_float,
    "scale by row": by_row,
    "MatMulNBits": by_block,
    "three parts": in_three_parts,
}


def main(seconds: float) -> None:
    """Prints the time of each form over that with one scale, and its error, at each shape."""
    print(f"{'rows, K, N':18}" + "".join(f"{name:>24}" for name in FORMS))
    for count, rows, columns in SHAPES:
        weight = RNG.standard_normal((rows, columns)).astype(np.float32)
        bias = RNG.standard_normal(columns).astype(np.float32)
        spread = np.exp(0.5 * RNG.standard_normal((count, 1)))  # tokens differ in size
        feeds = {"x": (RNG.standard_normal((count, rows)) * spread).astype(np.float32)}
        made = {name: session(*form(weight, bias), rows, columns) for name, form in FORMS.items()}
        expected = feeds["x"] @ weight + bias
        times: dict[str, list[float]] = {name: [] for name in made}
        end = time.perf_counter() + seconds / len(SHAPES)
        while time.perf_counter() < end:
            for name, program in made.items():
                started = time.perf_counter()
                for _ in range(5):
                    program.run(None, feeds)
                times[name].append(time.perf_counter() - started)
        cells = []
        for name, program in made.items():
            off = np.linalg.norm(program.run(None, feeds)[0] - expected) / np.linalg.norm(expected)
            ratio = np.median(np.array(times[name]) / np.array(times["one scale"]))
            cells.append(f"{ratio:.2f}x, error {off:.4f}")
        print(f"{f'{count}, {rows}, {columns}':18}" + "".join(f"{cell:>24}" for cell in cells))


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 30.0)
