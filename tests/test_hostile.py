"""Broken and hostile model files: each is refused with a message that names the place.

None may end in a traceback of another kind, take memory for what the file only claims, or hang.
"""

from __future__ import annotations

import os
import pickle
import tracemalloc
from pathlib import Path

import numpy as np
import onnx
import pytest
from hostile_models import CASES, Node, add_weight, deeply_nested, external, model, raw, relu, value

from optc.capture.onnx_file import load_onnx
from optc.capture.onnx_memory import from_proto
from optc.errors import InvalidModel


def refused(make: onnx.ModelProto, folder: Path) -> str:
    """The message that the file is refused with; big allocations on the way are a failure too."""
    path = folder / "model.onnx"
    path.write_bytes(make.SerializeToString())
    tracemalloc.start()
    try:
        with pytest.raises(InvalidModel) as caught:
            load_onnx(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 50 << 20
    assert "model.onnx" in str(caught.value.where)
    return str(caught.value)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model's folder with a data file of 64 bytes, and links and pipes that lead elsewhere."""
    inside = tmp_path / "models"
    (inside / "sub").mkdir(parents=True)
    (inside / "w.bin").write_bytes(bytes(64))
    (tmp_path / "secret.bin").write_bytes(bytes(64))
    (inside / "link.bin").symlink_to(tmp_path / "secret.bin")
    (inside / "folder").symlink_to(tmp_path, target_is_directory=True)
    os.mkfifo(inside / "pipe")
    return inside


@pytest.mark.parametrize("name", CASES)
def test_broken_model_is_refused(name: str, folder: Path) -> None:
    make, words = CASES[name]
    message = refused(make(), folder)
    for word in words:
        assert word in message


def test_the_data_file_beside_the_model_is_read(folder: Path) -> None:
    """The cases above fail for their own reason: the same model with nothing wrong loads."""
    path = folder / "model.onnx"
    path.write_bytes(external("w.bin", offset=16, length=16).SerializeToString())
    assert load_onnx(path).graph.initializers["w"].const_value.numpy().shape == (2, 2)


def test_link_that_stays_inside_is_followed(folder: Path) -> None:
    (folder / "inner.bin").symlink_to(folder / "w.bin")
    path = folder / "model.onnx"
    path.write_bytes(external("inner.bin").SerializeToString())
    assert load_onnx(path).graph.initializers["w"].const_value.nbytes == 16


def test_a_link_to_a_model_brings_the_data_beside_it(tmp_path: Path) -> None:
    """As in a cache of downloads, where model and data are links to files under other names."""
    cache, named, other = tmp_path / "blobs", tmp_path / "named", tmp_path / "other"
    for folder in (cache, named, other):
        folder.mkdir()
    (cache / "0a1b").write_bytes(external("w.bin").SerializeToString())
    weights = np.arange(16, dtype=np.float32)
    weights.tofile(cache / "2c3d")
    (named / "model.onnx").symlink_to(cache / "0a1b")
    (named / "w.bin").symlink_to(cache / "2c3d")
    loaded = load_onnx(named / "model.onnx").graph.initializers["w"].const_value
    assert loaded is not None and loaded.numpy().ravel().tolist() == [0, 1, 2, 3]
    (named / "w.bin").unlink()
    (named / "w.bin").symlink_to(other / "w.bin")
    weights.tofile(other / "w.bin")
    with pytest.raises(InvalidModel, match="outside the model's folder"):
        load_onnx(named / "model.onnx")
    (named / "w.bin").unlink()
    (cache / "2c3d").rename(cache / "w.bin")
    assert load_onnx(named / "model.onnx").graph.initializers["w"].const_value is not None


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("empty", b"", "empty"),
        ("png", b"\x89PNG\r\n\x1a\n" + bytes(50), "PNG"),
        ("json", b'{"ir_version": 8}', "JSON"),
        ("html", b"<!DOCTYPE html><html>not found</html>", "HTML"),
        ("pickle", pickle.dumps({"a": 1}, protocol=4), "pickle"),
        ("zip", b"PK\x03\x04" + bytes(50), "zip"),
        ("ort", bytes(4) + b"ORTM" + bytes(50), "ORT-format"),
        ("text", b'ir_version: 8\ngraph { name: "g" }\n', "text form"),
        ("pointer", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "git lfs pull"),
        ("noise", bytes(range(256)) * 4, "not an ONNX model"),
        ("zeros", bytes(1000), "not an ONNX model"),
    ],
)
def test_other_file_is_named(name: str, content: bytes, words: str, tmp_path: Path) -> None:
    path = tmp_path / f"{name}.onnx"
    path.write_bytes(content)
    with pytest.raises(InvalidModel) as caught:
        load_onnx(path)
    assert words in str(caught.value) and str(path) in str(caught.value)


def test_truncated_file(tmp_path: Path) -> None:
    data = add_weight(raw([64, 64], bytes(64 * 64 * 4))).SerializeToString()
    for cut in (1, 10, 100, len(data) // 2, len(data) - 1):
        path = tmp_path / "model.onnx"
        path.write_bytes(data[:cut])
        with pytest.raises(InvalidModel):
            load_onnx(path)


def test_flipped_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    """Any damage gives a model or InvalidModel, nothing else."""
    data = bytearray(add_weight(raw([2, 2], bytes(16))).SerializeToString())
    path = tmp_path / "model.onnx"
    for at in range(len(data)):
        for flip in (0x01, 0x80, 0xFF):
            damaged = bytearray(data)
            damaged[at] ^= flip
            path.write_bytes(damaged)
            try:
                load_onnx(path)
            except InvalidModel as error:
                assert str(path) in str(error)


@pytest.mark.parametrize(
    "name",
    [
        "9**9**9**9",
        "(9**9)**(9**9)",
        "9**99",
        "(" * 5000,
        "1" * 400 + "+n",
        "*".join(f"(a{i}+b{i})" for i in range(9)),
    ],
    ids=["tower", "product", "power", "nested", "long", "sums"],
)
def test_names_of_dims_that_take_for_ever_are_not_calculated(name: str, tmp_path: Path) -> None:
    """Joined, so that shape inference calculates with them; one name stays one name, beside others."""
    joined = Node("Concat", ["x", "x"], ["y"], axis=0)
    x, y = value("x", (name, "dim_0", name)), value("y", None)
    path = tmp_path / "model.onnx"
    path.write_bytes(model(joined, inputs=[x], outputs=[y]).SerializeToString())
    loaded = load_onnx(path).graph
    assert [str(dim) for dim in loaded.inputs[0].shape] == ["dim_1", "dim_0", "dim_1"]
    assert str(loaded.outputs[0].shape[0]) == "2*dim_1"


@pytest.mark.parametrize("name", ["n", "floor(n/2 - 1)", "(n + m)**2", "Max(n, 3) % 4"])
def test_names_of_dims_that_exporters_write_stay(name: str, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model(Node("Relu", ["x"], ["y"]), inputs=[value("x", (name, 2))]).SerializeToString())
    assert load_onnx(path).graph.inputs[0].shape[0] == name


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    for name, words in (("missing.onnx", "No such file"), (".", "directory"), ("pipe.onnx", "not a regular")):
        with pytest.raises(InvalidModel, match=words):
            load_onnx(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_unreadable_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(relu().SerializeToString())
    path.chmod(0)
    with pytest.raises(InvalidModel, match="Permission denied"):
        load_onnx(path)


def test_deep_nesting(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(deeply_nested(1000))
    with pytest.raises(InvalidModel, match="nested too deeply"):
        load_onnx(path)


def test_file_beyond_the_protobuf_limit(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    with path.open("wb") as file:
        file.write(relu().SerializeToString())
        file.truncate(3 << 30)  # sparse: takes no room
    with pytest.raises(InvalidModel, match="external data"):
        load_onnx(path)


def test_model_in_memory_has_no_folder() -> None:
    with pytest.raises(InvalidModel, match="in memory"):
        from_proto(external("w.bin"))
