"""What users hand over as files: only plain arrays are read, and every mistake is named."""

from __future__ import annotations

import errno
import os
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir
import pytest
import torch

import optc
from optc import data, npz
from optc.errors import UserError


def test_feeds_round_trip(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(6).reshape(2, 3), n=np.int64(3))
    feeds = data.load_feeds(path)
    assert feeds["x"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert feeds["n"].shape == ()


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04 broken"])
def test_broken_files_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.npz"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"x\.npz"):
        data.load_feeds(path)


def test_objects_are_not_unpickled(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.array([{"a": 1}], dtype=object))
    with pytest.raises(UserError, match="plain arrays"):
        data.load_feeds(path)


def test_claims_are_not_believed(tmp_path: Path) -> None:
    """An array of 16 TB in a file of 200 bytes, and a header that is code."""
    for header, message in (
        ("{'descr': '<f4', 'fortran_order': False, 'shape': (1099511627776, 4), }", "larger than the memory"),
        ("{'descr': __import__('os').abort(), 'fortran_order': False, 'shape': (1,), }", "plain arrays"),
    ):
        data_of = b"\x93NUMPY\x01\x00" + struct.pack("<H", 118) + header.ljust(117).encode() + b"\n"
        with zipfile.ZipFile(tmp_path / "x.npz", "w") as archive:
            archive.writestr("x.npy", data_of + bytes(64))
        with pytest.raises(UserError, match=message):
            data.load_feeds(tmp_path / "x.npz")


def test_files_that_unpack_to_more_than_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    np.savez_compressed(tmp_path / "x.npz", x=np.zeros(4000))
    assert data.load_feeds(tmp_path / "x.npz")["x"].size == 4000
    monkeypatch.setattr(npz, "physical_memory", lambda: 30_000)
    with pytest.raises(UserError, match="more than the memory"):
        data.load_feeds(tmp_path / "x.npz")


def test_devices_are_not_replaced_by_outputs(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot be written there"):
        data.save_outputs(tmp_path / "pipe", {"y": np.ones(2)})
    assert (tmp_path / "pipe").is_fifo()


def test_a_single_array_has_no_name(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(3))
    with pytest.raises(UserError, match="without a name"):
        data.load_feeds(tmp_path / "x.npy")


def test_outputs_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="not an array"):
        data.save_outputs(tmp_path / "y.npz", {"y": [np.zeros(2)]})
    with pytest.raises(UserError, match="cannot be written"):
        data.save_outputs(tmp_path / "missing" / "y.npz", {"y": np.zeros(2)})
    assert list(tmp_path.iterdir()) == []
    data.save_outputs(tmp_path / "y.npz", {"y": np.ones(2)})
    assert [p.name for p in tmp_path.iterdir()] == ["y.npz"]


def test_outputs_on_a_read_only_file_system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which refuses to remove what it has not let us write, too."""

    def refuse(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    monkeypatch.setattr(Path, "open", refuse)
    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UserError, match=r"cannot be written: Read-only(.|\n)*y\.npz"):
        data.save_outputs(tmp_path / "y.npz", {"y": np.ones(2)})


def test_calibration_is_sliced_to_the_captured_batch() -> None:
    example = {"x": np.zeros((2, 3), np.float32), "flag": np.zeros((2,), bool)}
    arrays = {"x": np.arange(15).reshape(5, 3), "flag": np.ones(5, bool)}
    samples = data.calibration_samples(arrays, example)
    assert [s["x"].tolist() for s in samples] == [[[0, 1, 2], [3, 4, 5]], [[6, 7, 8], [9, 10, 11]]]
    assert data.calibration_samples(lambda: iter([arrays, arrays]), example)[3]["x"].shape == (2, 3)
    assert data.calibration_samples(None, example) == []


def test_numbers_without_axes_are_the_same_in_every_slice() -> None:
    given = {"x": np.arange(4.0).reshape(4, 1), "on": np.array(True)}
    samples = data.calibration_samples(given, {"x": np.zeros((2, 1)), "on": np.array(False)})
    assert [feeds["x"].tolist() for feeds in samples] == [[[0], [1]], [[2], [3]]]
    assert [feeds["on"].tolist() for feeds in samples] == [True, True]
    alone = {"on": np.array(True)}
    assert data.calibration_samples(alone, {"on": np.array(False)}) == [alone]


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"z": np.zeros((4, 3))}, "one array for each input"),
        ({"x": np.zeros((1, 3))}, "do not fill one batch"),
        ({"x": np.zeros((4,))}, "1 dimensions, and the input 2"),
        ([], "empty"),
        ([3], "dicts of arrays"),
    ],
)
def test_calibration_that_does_not_fit(calibration: object, message: str) -> None:
    with pytest.raises(UserError, match=message):
        data.calibration_samples(calibration, {"x": np.zeros((2, 3), np.float32)})


@pytest.mark.parametrize("number", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float32, np.float64, ml_dtypes.bfloat16])
def test_calibration_data_holds_numbers_only(number: float, kind: type) -> None:
    example, array = {"x": np.zeros((2, 3), kind)}, np.arange(15).reshape(5, 3).astype(kind)
    array[4, 1] = number
    what = "NaN" if np.isnan(number) else "an infinity"
    for calibration, where in (
        ({"x": array}, "sample 4"),
        ([{"x": array[:2]}, {"x": array[2:]}], "item 1, sample 2"),
    ):
        with pytest.raises(UserError, match=f"of 'x' holds {what}(.|\n)*{where}(.|\n)*leave it out"):
            data.calibration_samples(calibration, example)
    assert len(data.calibration_samples({"x": array}, example, finite=False)) == 2


def test_masks_of_calibration_data_may_hold_infinities() -> None:
    mask = np.where(np.tri(4, dtype=bool), 0, -np.inf).astype(np.float32)[None]
    others = {"kept": np.ones((1, 4), bool), "ids": np.ones((1, 4), np.int64)}
    assert len(data.calibration_samples({"mask": mask, **others}, {"mask": mask, **others})) == 1


NAN_TEXT = """<ir_version: 10, opset_import: ["": 20]>
    g (float[n,4] x) => (float[n,4] y) <float zero = {0.0}> {
        m = IsNaN(x)  w = Where(m, zero, x)  y = Relu(w)
    }"""


def test_a_model_that_looks_for_missing_numbers_is_calibrated_with_some() -> None:
    model, samples = onnx_ir.from_onnx_text(NAN_TEXT), {"x": np.full((3, 4), np.nan, np.float32)}
    optc.compile(model, calibration=samples, level=1, gate=False)
    with pytest.raises(UserError, match="holds NaN"):
        optc.compile(torch.nn.Linear(4, 2), (torch.ones(1, 4),), calibration=samples, level=2, gate=False)


@pytest.mark.parametrize("text", ["batch", "batch=", "batch=-1", "batch=1.5", "batch=²"])
def test_a_size_is_a_whole_number(text: str) -> None:
    with pytest.raises(UserError, match="not a dimension and its size"):
        data.parse_dims([text])


def test_dims() -> None:
    assert data.parse_dims(["batch=8", "seq=128"]) == {"batch": 8, "seq": 128}
    with pytest.raises(UserError, match="batch=8"):
        data.parse_dims(["batch"])


def test_calibration_sources(tmp_path: Path) -> None:
    np.savez(tmp_path / "a.npz", x=np.zeros((2, 3)))
    assert len(list(data.load_calibration(str(tmp_path)))) == 1
    assert data.load_calibration(str(tmp_path / "a.npz"))["x"].shape == (2, 3)
    with pytest.raises(UserError, match="does not exist"):
        data.load_calibration(str(tmp_path / "missing"))


def test_a_model_of_any_batch_size_is_calibrated_with_single_samples() -> None:
    model = torch.nn.Linear(3, 4).eval()
    batch = torch.export.Dim("batch")
    singles = [{"input": np.full((1, 3), value, np.float32)} for value in range(3)]
    given = {"pipeline": "simplify, quantize{scheme=int8-weight}", "gate": False, "calibration": singles}
    optc.compile(model, (torch.zeros(2, 3),), dynamic_shapes=({0: batch},), **given)
    example = {"input": np.zeros((2, 3), np.float32)}
    samples = data.calibration_samples(singles, example, any_batch=True)
    assert [sample["input"].tolist() for sample in samples] == [
        single["input"].tolist() for single in singles
    ]
    with pytest.raises(UserError, match="do not fill one batch of 2"):
        optc.compile(model, (torch.zeros(2, 3),), **given)


def net() -> tuple[torch.nn.Module, tuple[torch.Tensor]]:
    return torch.nn.Linear(4, 3).eval(), (torch.zeros(1, 4),)


def broken(*given: object) -> float:
    raise KeyError("labels")


def leaving(*given: object) -> float:
    """With a code that says that all is well."""
    raise SystemExit(0)


def half_way() -> Iterator[dict[str, np.ndarray]]:
    yield {"input": np.zeros((1, 4), np.float32)}
    broken()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"calibration": broken}, r"the calibration function failed: KeyError: 'labels'"),
        ({"calibration": half_way}, r"going through the calibration data failed: KeyError: 'labels'"),
        ({"calibration": 5}, r"going through the calibration data failed: TypeError"),
        ({"calibration": {"x": np.zeros((1, 4))}}, r"arrays for x\n.*one array for each input.*: input"),
        ({"calibration": leaving}, r"the calibration function failed: SystemExit"),
        ({"metric": leaving, "max_drop": 0.1}, r"the metric failed: SystemExit"),
        ({"metric": broken, "max_drop": 0.1}, r"the metric failed: KeyError: 'labels'"),
        (
            {"metric": lambda run: run({"input": np.zeros((1, 5), np.float32)}), "max_drop": 0.1},
            r"the model did not run on what the metric gave it: .*ONNXRuntimeError.*\n.*"
            r"where: .*test_data.py:\d+\n.*check names, types and sizes",
        ),
        (
            {"metric": lambda run: run({"imput": np.zeros((1, 4), np.float32)}), "max_drop": 0.1},
            r"the model did not run on what the metric gave it: it has no input imput; known: input",
        ),
        ({"metric": lambda run: None, "max_drop": 0.1}, r"the metric returned None, which is not a number"),
        ({"pipeline": ["simplify"]}, r"the pipeline is a list, not text"),
        ({"level": "2"}, r"no optimization level '2'"),
        ({"max_error": "a"}, r"max_error='a' is out of range"),
        ({"threads": "2"}, r"threads='2' is out of range"),
        ({"seed": None}, r"seed=None is out of range"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else "",
)
def test_what_the_user_wrote_wrong_is_the_users(given: dict[str, object], message: str) -> None:
    module, example = net()
    with pytest.raises(UserError, match=message) as error:
        optc.compile(module, example, gate=False, **given)  # type: ignore[arg-type]
    if "labels" in message:
        assert f"where: {__file__}:" in str(error.value)


def test_run_takes_names() -> None:
    module, example = net()
    with pytest.raises(UserError, match="by input name, not a list") as error:
        optc.compile(module, example, gate=False).run([np.zeros((1, 4), np.float32)])  # type: ignore[arg-type]
    assert "known: input" in str(error.value)
