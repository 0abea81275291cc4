"""Programs as their runtimes run them, with nothing between: `.onnx` in ONNX Runtime, `.xml` in OpenVINO.

OpenVINO computes floats in float32, or in bfloat16 for a file that ends in `.bf16.xml`: where the CPU has
that type, it is what OpenVINO does by itself.

As a script it times one program on the cases in files: see `turns.py`.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

Program = Callable[[Mapping[str, np.ndarray]], list[np.ndarray]]  # an input that it lacks is left out


def program(path: Path, threads: int = 0) -> Program:
    """Opens a model on the CPU; 0 threads are as many as the runtime takes by itself."""
    return _openvino(path, threads) if path.suffix == ".xml" else _onnxruntime(path, threads)


def _onnxruntime(path: Path, threads: int) -> Program:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    session = ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    return lambda case: session.run(None, {name: case[name] for name in names})


def _openvino(path: Path, threads: int) -> Program:
    import openvino

    precision = "bf16" if ".bf16" in path.suffixes else "f32"
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    if threads:
        settings["INFERENCE_NUM_THREADS"] = str(threads)
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    names, request = [i.any_name for i in compiled.inputs], compiled.create_infer_request()

    def run(case: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        return list(request.infer({name: case[name] for name in names}, share_inputs=True).values())

    return run


def seconds_per_call(run: Program, case: Mapping[str, np.ndarray], seconds: float) -> float:
    """The median of at least ten calls, behind a third of the time to warm up."""
    end, times = time.perf_counter() + 0.3 * seconds, []
    while time.perf_counter() < end:
        run(case)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(times) < 10:
        start = time.perf_counter()
        run(case)
        times.append(time.perf_counter() - start)
    return float(np.median(times))


def main() -> None:
    """Prints the seconds per call of each case."""
    path, files, seconds, threads = sys.argv[1:]
    run = program(Path(path), int(threads))
    cases = [dict(np.load(file)) for file in json.loads(files)]
    print(json.dumps([seconds_per_call(run, case, float(seconds)) for case in cases]))


if __name__ == "__main__":
    main()
