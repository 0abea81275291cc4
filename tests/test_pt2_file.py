"""A .pt2 file is untrusted: what would make torch execute what it says is refused before torch reads it."""

from __future__ import annotations

import json
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.export import Dim

from optc.capture import capture
from optc.capture.pt2_file import load_pt2
from optc.errors import UserError

Records = dict[str, bytes]


class Small(torch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = torch.nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.linear(x)[1:].reshape(-1)


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pt2") / "model.pt2"
    program = torch.export.export(
        Small(), (torch.ones(5, 4),), dynamic_shapes=({0: Dim("rows", min=3, max=64)},)
    )
    torch.export.save(program, path)
    return path


class Payload:
    """Unpickling it creates the file ``stolen``."""

    def __reduce__(self) -> Any:
        return open, ("stolen", "w")


def rewritten(saved: Path, target: Path, change: Callable[[Records], None]) -> Path:
    with zipfile.ZipFile(saved) as archive:
        records = {info.filename: archive.read(info) for info in archive.infolist()}
    change(records)
    with zipfile.ZipFile(target, "w") as archive:
        for name, data in records.items():
            archive.writestr(name, data)
    return target


def named(records: Records, ending: str) -> str:
    return next(name for name in records if name.endswith(ending))


def test_the_unchanged_program_loads(saved: Path, tmp_path: Path) -> None:
    """So that the refusals below are not for another reason."""
    program = load_pt2(rewritten(saved, tmp_path / "same.pt2", lambda records: None))
    assert program.module()(torch.ones(5, 4)).shape == (16,)
    captured = capture(saved)
    assert str(captured.model.graph.inputs[0].shape[0]) == "x_dim_0"  # type: ignore[index]
    assert captured.model.metadata_props["optc.dims"] == '{"x_dim_0": [3, 64]}'


def pickled_sample(records: Records) -> None:
    """Torch falls back to full unpickling when its safe unpickler refuses."""
    torch.save(((Payload(),), {}), "payload.bin")
    records[named(records, "sample_inputs/model.pt")] = Path("payload.bin").read_bytes()


def raw_pickle_sample(records: Records) -> None:
    records[named(records, "sample_inputs/model.pt")] = pickle.dumps(Payload())


def pickled_weight(records: Records) -> None:
    name = named(records, "model_weights_config.json")
    config = json.loads(records[name])
    next(iter(config["config"].values()))["use_pickle"] = True
    records[name] = json.dumps(config).encode()
    torch.save(Payload(), "payload.bin")
    records[named(records, "weight_0")] = Path("payload.bin").read_bytes()


def pickled_constant(prefix: str) -> Callable[[Records], None]:
    def change(records: Records) -> None:
        name = named(records, "model_constants_config.json")
        meta = {"path_name": f"{prefix}0", "is_param": False, "use_pickle": False, "tensor_meta": None}
        records[name] = json.dumps({"config": {"thing": meta}}).encode()
        records[name.replace("model_constants_config.json", f"{prefix}0")] = pickle.dumps(Payload())

    return change


def evaluated_size(records: Records) -> None:
    name = named(records, "models/model.json")
    text = records[name].decode()
    start = text.index("Symbol('")
    end = text.index('"', start)
    records[name] = (text[:start] + "open('stolen', 'w')" + text[end:]).encode()


def compiled_code(records: Records) -> None:
    root = named(records, "models/model.json").split("/")[0]
    records[f"{root}/data/aotinductor/model/model.so"] = b"\x7fELF"


def imported_module(records: Records) -> None:
    name = named(records, "models/model.json")
    program = json.loads(records[name])
    program["default_factory_module"] = "antigravity"
    records[name] = json.dumps(program).encode()


def other_function(records: Records) -> None:
    name = named(records, "models/model.json")
    records[name] = records[name].replace(b"torch.ops.aten.linear.default", b"torch.os.system")


def legacy_format(records: Records) -> None:
    records["version"] = b"8.8"
    records["serialized_exported_program.json"] = b"{}"


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (pickled_sample, "cannot be read"),
        (raw_pickle_sample, "cannot be read"),
        (pickled_weight, "pickled objects"),
        (pickled_constant("custom_obj_"), "no tensor"),
        (pickled_constant("opaque_obj_"), "no tensor"),
        (evaluated_size, "is no size"),
        (compiled_code, "compiled code"),
        (imported_module, "modules to import"),
        (other_function, ""),
        (legacy_format, "not a .pt2 file of this format"),
        (lambda records: records.pop(named(records, "models/model.json")), "no exported program"),
        (lambda records: records.pop(named(records, "weight_0")), "cannot be read"),
        (lambda records: records.update({named(records, "weight_0"): b"abc"}), "cannot be read"),
        (lambda records: records.update({named(records, "models/model.json"): b"{"}), "cannot be read"),
    ],
)
def test_what_would_execute_or_break_is_refused(
    saved: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Records], None], what: str
) -> None:
    monkeypatch.chdir(tmp_path)
    path = rewritten(saved, tmp_path / "hostile.pt2", change)
    with pytest.raises(UserError) as caught:
        capture(path)
    assert what in caught.value.what and "hostile.pt2" in (caught.value.where or "")
    assert "torch.export.save" in (caught.value.hint or "") or "containers" in (caught.value.hint or "")
    assert not (tmp_path / "stolen").exists()


def test_a_file_that_unpacks_to_far_more_than_it_is(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt2", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("m/data/weights/weight_0", bytes(64 * 2**20))
    with pytest.raises(UserError, match="far more"):
        load_pt2(tmp_path / "bomb.pt2")


@pytest.mark.parametrize("content", [b"", b"not a zip", b"PK\x03\x04" + bytes(50)])
def test_files_that_are_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.pt2").write_bytes(content)
    with pytest.raises(UserError, match=r"not a \.pt2 file"):
        load_pt2(tmp_path / "x.pt2")
    with pytest.raises(UserError, match="no such file"):
        load_pt2(tmp_path / "y.pt2")


def test_a_checkpoint_is_no_program(tmp_path: Path) -> None:
    torch.save({"weight": torch.ones(3)}, tmp_path / "weights.pt2")
    with pytest.raises(UserError, match="no exported program"):
        load_pt2(tmp_path / "weights.pt2")
