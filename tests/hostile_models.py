"""Models that are broken in one place each, and what must be said of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT = TensorProto.FLOAT
Node = helper.make_node


def value(
    name: str, shape: Sequence[int | str | None] | None = (2, 2), kind: int = FLOAT
) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, kind, shape)


def model(
    *nodes: onnx.NodeProto,
    inputs: Sequence[onnx.ValueInfoProto] | None = None,
    outputs: Sequence[onnx.ValueInfoProto] | None = None,
    initializers: Sequence[onnx.TensorProto] = (),
    imports: Sequence[tuple[str, int]] = (("", 20),),
    functions: Sequence[onnx.FunctionProto] = (),
) -> onnx.ModelProto:
    graph = helper.make_graph(
        nodes,
        "g",
        [value("x")] if inputs is None else inputs,
        [value("y")] if outputs is None else outputs,
        initializers,
    )
    opsets = [helper.make_opsetid(domain, version) for domain, version in imports]
    return helper.make_model(graph, opset_imports=opsets, functions=functions, ir_version=10)


def add_weight(tensor: onnx.TensorProto) -> onnx.ModelProto:
    return model(Node("Add", ["x", tensor.name or "w"], ["y"], name="sum"), initializers=[tensor])


def raw(dims: Sequence[int], data: bytes, kind: int = FLOAT, name: str = "w") -> onnx.TensorProto:
    return TensorProto(name=name, dims=dims, data_type=kind, raw_data=data)


def external(location: str, dims: Sequence[int] = (2, 2), **more: object) -> onnx.ModelProto:
    tensor = TensorProto(name="w", dims=dims, data_type=FLOAT, data_location=TensorProto.EXTERNAL)
    for key, text in {"location": location, **more}.items():
        tensor.external_data.add(key=key, value=str(text))
    return add_weight(tensor)


def relu() -> onnx.ModelProto:
    return model(Node("Relu", ["x"], ["y"], name="only"))


def function(name: str, *nodes: onnx.NodeProto) -> onnx.FunctionProto:
    return helper.make_function("local", name, ["a"], ["b"], list(nodes), [helper.make_opsetid("", 20)])


def recursive() -> onnx.ModelProto:
    bodies = [
        function("f", Node("g", ["a"], ["b"], domain="local")),
        function("g", Node("f", ["a"], ["b"], domain="local")),
    ]
    for body in bodies:
        body.opset_import.add(domain="local", version=1)
    imports = [("", 20), ("local", 1)]
    return model(Node("f", ["x"], ["y"], domain="local"), functions=bodies, imports=imports)


def billion_calls() -> onnx.ModelProto:
    bodies = [function("f0", Node("Relu", ["a"], ["b"]))]
    for depth in range(1, 60):
        before = f"f{depth - 1}"
        calls = [Node(before, ["a"], ["t"], domain="local"), Node(before, ["t"], ["b"], domain="local")]
        bodies.append(function(f"f{depth}", *calls))
        bodies[-1].opset_import.add(domain="local", version=1)
    imports = [("", 20), ("local", 1)]
    return model(Node("f59", ["x"], ["y"], domain="local"), functions=bodies, imports=imports)


def field(number: int, data: bytes) -> bytes:
    """A length-delimited protobuf field; onnx.helper cannot build what protobuf refuses to read."""
    size, length = len(data), bytearray()
    while size > 0x7F:
        length.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes([number << 3 | 2, *length, size]) + data


def deeply_nested(levels: int) -> bytes:
    graph = b""
    for _ in range(levels):
        attribute = field(1, b"then_branch") + field(6, graph)
        graph = field(1, field(4, b"If") + field(5, attribute))
    return field(7, graph)


def sparse(dims: Sequence[int], indices: Sequence[int]) -> onnx.ModelProto:
    values = numpy_helper.from_array(np.ones(len(indices), np.float32), "w")
    places = numpy_helper.from_array(np.array(indices, np.int64), "w_indices")
    broken = model(Node("Add", ["x", "w"], ["y"], name="sum"))
    broken.graph.sparse_initializer.append(helper.make_sparse_tensor(values, places, dims))
    return broken


def shadowing() -> onnx.ModelProto:
    branch = helper.make_graph([Node("Relu", ["x"], ["a"])], "b", [], [value("a")])
    other = helper.make_graph([Node("Neg", ["x"], ["n"])], "b", [], [value("n")])
    choose = Node("If", ["c"], ["y"], name="choose", then_branch=branch, else_branch=other)
    inputs = [value("x"), value("c", [], TensorProto.BOOL)]
    return model(Node("Abs", ["x"], ["a"], name="abs"), choose, inputs=inputs)


def wrong_attribute_type() -> onnx.ModelProto:
    return model(Node("Softmax", ["x"], ["y"], name="soft", axis="last"))


def reference_outside() -> onnx.ModelProto:
    broken = model(Node("Softmax", ["x"], ["y"], name="soft"))
    broken.graph.node[0].attribute.add(name="axis", ref_attr_name="ax", type=onnx.AttributeProto.INT)
    return broken


def untyped_attribute() -> onnx.ModelProto:
    broken = model(Node("Softmax", ["x"], ["y"], name="soft", axis=1))
    broken.graph.node[0].attribute[0].ClearField("type")
    return broken


def without_graph() -> onnx.ModelProto:
    return onnx.ModelProto(ir_version=10)


def declared(kind: int, shape: Sequence[int]) -> onnx.ModelProto:
    broken = add_weight(raw([2, 2], bytes(16)))
    broken.graph.value_info.append(value("w", shape, kind))
    return broken


def named_output(name: str) -> onnx.ModelProto:
    return model(Node("Relu", ["x"], ["y"], name="only"), outputs=[value(name)])


HUGE = 1 << 60

CASES: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[str, ...]]] = {
    "no graph": (without_graph, ("no graph",)),
    "raw data too short": (lambda: add_weight(raw([2, 2], bytes(12))), ("'w'", "12 bytes", "16")),
    "raw data too long": (lambda: add_weight(raw([2, 2], bytes(20))), ("'w'", "20 bytes")),
    "dims far beyond the data": (
        lambda: add_weight(raw([1 << 30, 1 << 30], bytes(4))),
        ("'w'", str(4 << 60)),
    ),
    "negative dims": (lambda: add_weight(raw([-2, 2], bytes(16))), ("'w'", "negative")),
    "strings that are not there": (
        lambda: add_weight(TensorProto(name="w", dims=[HUGE], data_type=TensorProto.STRING)),
        ("'w'", "string_data has 0 entries"),
    ),
    "data in the field of another dtype": (
        lambda: add_weight(TensorProto(name="w", dims=[2], data_type=FLOAT, int64_data=[1, 2])),
        ("'w'", "int64_data", "another dtype"),
    ),
    "unknown dtype": (lambda: add_weight(raw([1], bytes(4), kind=77)), ("'w'", "77")),
    "constant larger than its data": (
        lambda: model(Node("Constant", [], ["y"], name="const", value=raw([HUGE], b"1234")), inputs=[]),
        ("const", "'value'"),
    ),
    "declared with another dtype": (lambda: declared(TensorProto.INT64, [2, 2]), ("'w'", "INT64")),
    "declared with another shape": (lambda: declared(FLOAT, [2, 3]), ("'w'", "[2,3]")),
    "initializer without a name": (lambda: add_weight(raw([2, 2], bytes(16), name="")), ("no name",)),
    "two initializers of one name": (
        lambda: model(Node("Add", ["x", "w"], ["y"]), initializers=[raw([1], bytes(4))] * 2),
        ("'w'", "twice"),
    ),
    "two inputs of one name": (
        lambda: model(Node("Relu", ["x"], ["y"]), inputs=[value("x"), value("x")]),
        ("'x'", "twice"),
    ),
    "input without an element type": (
        lambda: model(Node("Relu", ["x"], ["y"]), inputs=[value("x", kind=TensorProto.UNDEFINED)]),
        ("input 'x'", "no element type"),
    ),
    "input without a name": (lambda: model(Node("Relu", ["x"], ["y"]), inputs=[value("")]), ("no name",)),
    "output without a name": (lambda: named_output(""), ("no name",)),
    "output that nobody produces": (lambda: named_output("z"), ("'z'", "no node")),
    "value defined twice": (
        lambda: model(Node("Relu", ["x"], ["y"], name="a"), Node("Neg", ["x"], ["y"], name="b")),
        ("'b'", "'y'"),
    ),
    "node overwrites an input": (lambda: model(Node("Relu", ["x"], ["x"], name="a")), ("'a'", "'x'")),
    "subgraph hides an outer value": (shadowing, ("'a'", "twice", "choose")),
    "input that nobody defines": (
        lambda: model(Node("Add", ["x", "ghost"], ["y"], name="sum")),
        ("'ghost'", "'sum'", "> %y = Add(%x, %ghost)"),
    ),
    "cycle": (
        lambda: model(
            Node("Add", ["x", "b"], ["a"], name="one"),
            Node("Relu", ["a"], ["b"], name="two"),
            outputs=[value("b")],
        ),
        ("cycle", "'one'", "'two'"),
    ),
    "unknown operator": (
        lambda: model(Node("Reluu", ["x"], ["y"], name="typo")),
        ("'typo'", "Reluu", "did you mean Relu?"),
    ),
    "operator newer than the opset": (
        lambda: model(Node("Gelu", ["x"], ["y"], name="new"), imports=[("", 13)]),
        ("'new'", "Gelu", "20"),
    ),
    "operator that was removed": (
        lambda: model(Node("Upsample", ["x", "x"], ["y"], name="old")),
        ("'old'", "removed", "10"),
    ),
    "unknown domain": (
        lambda: model(Node("Magic", ["x"], ["y"], name="m", domain="com.example")),
        ("'m'", "com.example"),
    ),
    "unknown domain that is imported": (
        lambda: model(
            Node("Magic", ["x"], ["y"], name="m", domain="com.example"),
            imports=[("", 20), ("com.example", 1)],
        ),
        ("'m'", "com.example::Magic", "no function body"),
    ),
    "node without an operator": (lambda: model(Node("", ["x"], ["y"], name="blank")), ("'blank'",)),
    "too few inputs": (lambda: model(Node("MatMul", ["x"], ["y"], name="mm")), ("'mm'", "1 inputs", "2")),
    "required input left out": (
        lambda: model(Node("Add", ["x", ""], ["y"], name="sum")),
        ("'sum'", "required input 1"),
    ),
    "attribute that the operator does not have": (
        lambda: model(Node("Relu", ["x"], ["y"], name="r", slope=1.0)),
        ("'r'", "'slope'"),
    ),
    "attribute of another type": (wrong_attribute_type, ("'soft'", "'axis'", "STRING")),
    "attribute of no type": (untyped_attribute, ("'soft'", "'axis'", "UNDEFINED")),
    "missing attribute": (lambda: model(Node("Concat", ["x", "x"], ["y"], name="cat")), ("'cat'", "'axis'")),
    "constant of two values": (
        lambda: model(Node("Constant", [], ["y"], name="c", value_float=1.0, value_int=3)),
        ("'c'", "'value_float', 'value_int'"),
    ),
    "constant without a value": (lambda: model(Node("Constant", [], ["y"], name="c")), ("'c'", "none")),
    "functions that call each other": (recursive, ("calls itself",)),
    "function calls that expand without bound": (billion_calls, ("expand", "local::f")),
    "sparse tensor that is a bomb": (lambda: sparse([1 << 20, 1 << 20], [3]), ("'w'", "too much")),
    "sparse index outside": (lambda: sparse([2, 2], [4]), ("'w'", "do not fit")),
    "absurd dim of an input": (
        lambda: model(Node("Relu", ["x"], ["y"]), inputs=[value("x", [-7, 2])]),
        ("'x'", "-7"),
    ),
    "opset from the future": (
        lambda: model(Node("Relu", ["x"], ["y"]), imports=[("", 999)]),
        ("opset 999", "knows"),
    ),
    "reference to an attribute of no function": (
        reference_outside,
        ("'soft'", "'axis'", "'ax'"),
    ),
    "opset imported twice": (
        lambda: model(Node("Relu", ["x"], ["y"]), imports=[("", 20), ("ai.onnx", 13)]),
        ("imported as version 20 and as 13",),
    ),
    "no opset": (lambda: model(Node("Relu", ["x"], ["y"]), imports=[]), ("imports no operator set",)),
    "absurd opset": (lambda: model(Node("Relu", ["x"], ["y"]), imports=[("", -3)]), ("-3",)),
    "operator newer than ONNX Runtime": (
        lambda: model(Node("SwiGLU", ["x", "x"], ["y"], name="gate"), imports=[("", 28)]),
        ("'gate'", "SwiGLU"),
    ),
    "declared output type that the operator does not give": (
        lambda: model(Node("Cast", ["x"], ["y"], name="cast", to=7)),
        ("cast", "tensor(int64)"),
    ),
    "inputs of different types": (
        lambda: model(
            Node("Add", ["x", "n"], ["y"], name="sum"),
            inputs=[value("x"), value("n", (2, 2), TensorProto.INT64)],
        ),
        ("sum", "tensor(int64)"),
    ),
    "shapes that do not fit": (
        lambda: model(Node("MatMul", ["x", "w"], ["y"], name="mm"), initializers=[raw([3, 1], bytes(12))]),
        ("mm", "ncompatible dim"),
    ),
    "absolute path": (lambda: external("/etc/passwd"), ("'w'", "/etc/passwd")),
    "path upwards": (lambda: external("../secret.bin"), ("'w'", "outside")),
    "path up and down": (lambda: external("sub/../../secret.bin"), ("'w'", "outside")),
    "path with a null byte": (lambda: external("w\0.bin"), ("'w'", "relative path")),
    "no path": (lambda: external(""), ("'w'", "relative path")),
    "data file is missing": (lambda: external("nowhere.bin"), ("'w'", "'nowhere.bin'", "No such file")),
    "offset that is no number": (lambda: external("w.bin", offset="0x10"), ("'w'", "'0x10'")),
    "negative offset": (lambda: external("w.bin", offset=-4), ("'w'", "'-4'")),
    "offset behind the end": (lambda: external("w.bin", offset=HUGE), ("'w'", "64 bytes")),
    "more than the file has": (lambda: external("w.bin", dims=[1 << 20, 1 << 20]), ("'w'", "64 bytes")),
    "length of something else": (lambda: external("w.bin", length=8), ("'w'", "8 bytes", "16")),
    "data file is a directory": (lambda: external("sub"), ("'w'", "not a regular file")),
    "data file is a pipe": (lambda: external("pipe"), ("'w'", "not a regular file")),
    "link to a file outside": (lambda: external("link.bin"), ("'w'", "outside")),
    "link to a folder outside": (lambda: external("folder/secret.bin"), ("'w'", "outside")),
    "external strings": (
        lambda: add_weight(TensorProto(name="w", dims=[1], data_type=TensorProto.STRING, data_location=1)),
        ("'w'", "strings"),
    ),
}
