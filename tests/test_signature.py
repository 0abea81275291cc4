"""How a model is called: arguments to feeds, outputs to results, and both as JSON that is safe to read."""

from __future__ import annotations

import collections
import json
import subprocess
import sys
from typing import Any

import pytest

from optc.capture.signature import Parameter, Signature
from optc.capture.structure import Branch, Const, Leaf, Record, from_json, to_json, unflatten
from optc.errors import UserError

Point = collections.namedtuple("Point", ["x", "y"])

NESTED = Signature(
    (
        Parameter("x", Leaf("x")),
        Parameter("mode", Const("fast")),
        Parameter(
            "parts", Branch("dict", ("a", "b"), (Leaf("parts_a"), Branch("list", (0,), (Leaf("parts_b_0"),))))
        ),
        Parameter("labels", None),
        Parameter("scale", Leaf("scale"), "KEYWORD_ONLY"),
    ),
    Branch("tuple", (0, 1), (Leaf("y"), Const(None))),
)


@pytest.mark.parametrize(
    ("args", "kwargs"),
    [
        ((1, "fast", {"a": 2, "b": [3]}), {"scale": 4}),
        ((1,), {"parts": {"b": [3], "a": 2}, "scale": 4, "labels": None}),
        ((), {"scale": 4, "x": 1, "parts": {"a": 2, "b": (3,)}, "mode": "fast"}),
    ],
)
def test_arguments_bind_as_in_python(args: Any, kwargs: Any) -> None:
    assert NESTED.flatten(args, kwargs) == {"x": 1, "parts_a": 2, "parts_b_0": 3, "scale": 4}


@pytest.mark.parametrize(
    ("args", "kwargs", "message"),
    [
        ((1, "slow", {"a": 2, "b": [3]}), {"scale": 4}, "'fast' here, and got 'slow'"),
        ((1, "fast", {"a": 2}), {"scale": 4}, "dict with the keys"),
        ((1, "fast", {"a": 2, "b": []}), {"scale": 4}, "expected 1 items, got 0 items"),
        ((1, "fast", {"a": 2, "b": [None]}), {"scale": 4}, r"parts\['b'\]\[0\]"),
        ((1, "fast", {"a": 2, "b": [3]}), {}, "no value for scale"),
        ((1, "fast", {"a": 2, "b": [3]}, 5), {"scale": 4}, "without 'labels'"),
        ((1, "fast", {"a": 2, "b": [3]}), {"scale": 4, "scal": 4}, "unexpected keyword argument 'scal'"),
        ((), {"scale": 4, "parts": {"a": 2, "b": [3]}}, "no value for x"),
    ],
)
def test_arguments_that_do_not_fit_are_named(args: Any, kwargs: Any, message: str) -> None:
    with pytest.raises(UserError, match=message):
        NESTED.flatten(args, kwargs)


def test_names_of_onnx_inputs_need_not_be_python_names() -> None:
    signature = Signature.of_names(["x:0", "class"], ["a/b", "c"], optional=["class"])
    assert signature.flatten((1,), {}) == {"x:0": 1, "class": None}
    assert signature.flatten((1,), {"class": 2}) == {"x:0": 1, "class": 2}
    assert signature.unflatten({"a/b": 1, "c": 2}) == (1, 2)
    assert signature.input_names == ["x:0", "class"] and signature.output_names == ["a/b", "c"]
    with pytest.raises(UserError, match="'y' is no input"):
        signature.flatten((), {"y": 1})
    with pytest.raises(UserError, match="given twice"):
        signature.flatten((1,), {"x:0": 1})
    with pytest.raises(UserError, match="3 arguments for 2"):
        signature.flatten((1, 2, 3), {})
    assert Signature.of_names(["x"], ["y"]).unflatten({"y": 5}) == 5


def test_an_input_with_a_default_may_be_left_out() -> None:
    signature = Signature.of_names(["x", "w"], ["y"], defaults=["w"])
    signature = Signature.from_json(signature.to_json())
    assert signature.flatten((1,), {}) == signature.flatten((1, None), {}) == {"x": 1}
    assert signature.flatten((1, 2), {}) == {"x": 1, "w": 2}


def test_a_signature_survives_json() -> None:
    assert Signature.from_json(json.loads(json.dumps(NESTED.to_json()))) == NESTED


def test_every_container_survives_json() -> None:
    point = Branch("namedtuple", ("x", "y"), (Leaf("p"), Const(2)), f"{__name__}:Point")
    ordered = Branch("OrderedDict", (1, (2, 3)), (Leaf("q", "int"), Leaf("r", optional=True)))
    whole = Branch("list", (0, 1), (point, ordered))
    again = from_json(json.loads(json.dumps(to_json(whole))))
    assert again == whole
    result = unflatten(again, {"p": 1, "q": 5, "r": 6})
    assert result == [Point(1, 2), collections.OrderedDict({1: 5, (2, 3): 6})]
    assert isinstance(result[0], Point) and isinstance(result[1], collections.OrderedDict)


@pytest.mark.parametrize(
    "data", [None, [], {}, {"tuple": 3}, {"dict": [], "keys": ["a"]}, {"parameters": 3}, "text"]
)
def test_what_is_no_signature_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match="not a|keys for"):
        Signature.from_json({"parameters": [{"name": "x", "structure": data}], "output": data})
    with pytest.raises(ValueError, match="not a"):
        Signature.from_json(data)


@pytest.mark.parametrize(
    "cls", ["os:system", "subprocess:Popen", "builtins:exec", "no.such.module:Thing", ""]
)
@pytest.mark.parametrize("kind", ["object", "namedtuple"])
def test_a_class_name_in_a_file_runs_nothing(cls: str, kind: str) -> None:
    """Only what torch already treats as a container is built; all else becomes a record of its fields."""
    made = unflatten(Branch(kind, ("args",), (Leaf("x"),), cls, ["args"]), {"x": "touch /tmp/never"})
    assert type(made) is Record and made.args == made["args"] == "touch /tmp/never"
    with pytest.raises(AttributeError):
        made.missing  # noqa: B018


def test_a_result_class_need_not_be_imported() -> None:
    """Where transformers is not loaded, the fields are there all the same, and nothing is imported."""
    cls = "transformers.modeling_outputs:BaseModelOutput"
    data = to_json(Branch("object", ("last_hidden_state",), (Leaf("y"),), cls, ["last_hidden_state"]))
    code = (
        "import sys; from optc.capture.structure import from_json, unflatten;"
        f"out = unflatten(from_json({data!r}), {{'y': 7}});"
        "print(out.last_hidden_state, out['last_hidden_state'], 'transformers' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["7", "7", "False"]
