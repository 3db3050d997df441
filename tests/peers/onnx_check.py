"""Checks the files of onnx_write.lua with onnx.checker and runs them in onnxruntime: onnx_check.py FOLDER"""
import collections
import json
import os
import sys

import numpy
import onnx
import onnxruntime
from safetensors.numpy import load_file

LIMIT = 1e-5  # of the largest value of an output


def family(name):
    if ":" in name:
        kind, network = name.split(": ", 1)
        if network.isdigit():
            return kind
        return f"{kind}: {network.split(',')[0]}"
    word = name.split(" ")[0].split("(")[0]
    return word[:-2] if word[-2:] in ("1d", "2d", "3d") else word


def check(folder, case):
    path = os.path.join(folder, case["file"])
    model = onnx.load(path + ".onnx")
    onnx.checker.check_model(model, full_check=True)
    # Shape inference agrees with what the file says about its outputs.
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    assert [o.name for o in inferred.graph.output] == [o.name for o in model.graph.output]
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path + ".onnx", options, providers=["CPUExecutionProvider"])
    tensors = load_file(path + ".safetensors")
    worst = 0.0
    for k in range(1, case["shapes"] + 1):
        inputs = {v.name: tensors[f"{k}.in.{n}"] for n, v in enumerate(session.get_inputs(), 1)}
        for n, got in enumerate(session.run(None, inputs), 1):
            expected = tensors[f"{k}.out.{n}"].astype(numpy.float64)
            # A mask may have one channel where the file repeats it.
            difference = numpy.abs(expected - got.astype(numpy.float64))
            if difference.size:
                assert not numpy.isnan(difference).any(), f"NaN in output {n}"
                worst = max(worst, difference.max() / (numpy.abs(expected).max() or 1.0))
    assert worst <= LIMIT, f"error {worst:.3g}"
    return worst


def main():
    folder = sys.argv[1]
    with open(os.path.join(folder, "cases.json")) as file:
        cases = json.load(file)
    worst, count, failed = collections.defaultdict(float), collections.Counter(), 0
    for case in cases:
        name = family(case["name"])
        count[name] += 1
        try:
            worst[name] = max(worst[name], check(folder, case))
        except Exception as error:  # every failing case is listed
            failed += 1
            print(f"FAILED {case['name']}: {str(error)[:300]}")
    for name in sorted(worst):
        print(f"{name:45} {count[name]:4} networks, largest error {worst[name]:.1e}")
    print(f"onnx {onnx.__version__}, onnxruntime {onnxruntime.__version__}: {len(cases) - failed} of {len(cases)} networks agree "
          f"within {LIMIT:g}")
    sys.exit(1 if failed or not cases else 0)


main()
