"""Draws random cases, computes them with masked_torch on PyTorch, and writes them in the format of tests/golden.

    python3 tests/peers/draw_cases.py [--seed 1] [--count 40] [--families conv,bn,modules,figure,ops] FOLDER

--count is the number of cases per family (the family figure: a tenth). MASKED_TORCH_PYTHON names a checkout of masked_torch.
The specs that read tests/golden read the folder instead when GOLDEN=FOLDER is set; `make test-peers` does both.

A case is a function of its fields: run(fields, upstream) -> {field: tensor}. It is computed in float64; tolerances are those
of tests/golden/README.md. Cases whose fixed tolerances rounding alone would break (float64, statistics of the figure) are
drawn again.
"""
import argparse
import json
import os
import struct
import sys

try:
    import torch
except ImportError as error:
    sys.exit(f"draw_cases: PyTorch is missing ({error}): scripts/install_peers unpacks it, then `. build/peers/environment`")
sys.path.insert(0, os.environ.get("MASKED_TORCH_PYTHON", ""))
try:
    import masked_torch.nn  # noqa: F401
except ImportError as error:
    sys.exit(f"draw_cases: masked_torch is missing ({error}): MASKED_TORCH_PYTHON=<checkout of ivanstepanovftw/masked_torch>")
import families

NAMES = {torch.float32: "F32", torch.float64: "F64", torch.int64: "I64"}


def cast(fields, dtype):
    return {k: v.to(dtype) if v.is_floating_point() else v for k, v in fields.items()}


def perturbed(fields, step):
    """In float64, everything but masks changed by a relative step, up or down."""
    def change(name, v):
        if not v.is_floating_point() or "mask" in name:
            return v
        return v * (1 + (torch.randint(0, 2, v.shape) * 2 - 1) * step)
    return {k: change(k, v) for k, v in cast(fields, torch.float64).items()}


def deviation(a, b):
    both = torch.isfinite(a) & torch.isfinite(b)
    return float((a - b).abs()[both].max()) if both.any() else 0.0


def tolerance(expected, others, f32):
    if not expected.is_floating_point():
        return 0
    finite = expected[torch.isfinite(expected)].abs()
    largest = float(finite.max()) if finite.numel() else 0.0
    if not f32:
        return 1e-12 * largest
    return 8 * max([2.0**-23 * largest] + [deviation(expected, o.double()) for o in others])


class Redraw(Exception):
    pass


def check_rows(rows, others):
    for row, other in zip(rows, others):
        for key in "std", "skewness", "kurtosis":
            for kind in "printed", "valid":
                a, b = row[kind][key], other[kind][key]
                if a is not None and not abs(a - (b or 0)) <= 2e-5 * abs(a):
                    raise Redraw


def compute(case):
    """Adds the upstream gradients, the expected values and the tolerances to a drawn case; returns its tensors and rows."""
    f32 = case["dtype"] == "F32"
    dtype = torch.float32 if f32 else torch.float64
    given, drawn = cast(case.pop("fields"), dtype), {}
    run, rows_of, rows = case.pop("run"), case.pop("rows", None), None

    def upstream(name, like):
        if name not in drawn:
            drawn[name] = torch.randn(like.shape, dtype=dtype)
        return drawn[name].to(like.dtype)

    def results(fields):
        return {k: v.detach().clone() for k, v in run(fields, upstream).items()}

    expected = results(cast(given, torch.float64))
    if f32:
        others = [results(given), results(perturbed(given, 2.0**-24))]
    else:
        others = [results(perturbed(given, 2.0**-52)) for _ in range(4)]
    case["tol"] = {k: tolerance(v, [o[k] for o in others], f32) for k, v in expected.items()}
    if not f32:
        # 1e-12 of a small remainder of larger numbers is less than their rounding.
        if any(0 < tol < 2.0**-46 for tol in case["tol"].values()) or \
                any(8 * deviation(v, o[k]) > case["tol"][k] for k, v in expected.items() for o in others):
            raise Redraw
    if any(v.is_floating_point() and not bool(torch.isfinite(v).all()) for v in expected.values()):
        case["nan"] = True
        # NaN of an empty batch norm channel is not carried through the layers that follow: holes select, also there.
        if case["family"] == "modules":
            raise Redraw
    if rows_of:
        rows, other = (rows_of(cast(given | r, torch.float64)) for r in (expected, others[0]))
        check_rows(rows, other)
    tensors = given | {"gout." + k: v for k, v in drawn.items()} | cast(expected, dtype)

    def names(prefix):
        return [k[len(prefix):] for k in tensors if k.startswith(prefix)]
    case |= {"inputs": names("in."), "params": names("param."), "upstream": names("gout."), "outputs": names("out."),
             "grads": names("grad."), "states": [k for k in tensors if k.startswith("state")],
             "tensors": {k: {"dtype": NAMES[v.dtype], "shape": list(v.shape)} for k, v in tensors.items()}}
    return tensors, rows


def write_safetensors(path, tensors):
    header, blobs, offset = {}, [], 0
    for name, t in sorted(tensors.items(), key=lambda item: -item[1].element_size()):
        blob = t.contiguous().numpy().tobytes()
        header[name] = {"dtype": NAMES[t.dtype], "shape": list(t.shape), "data_offsets": [offset, offset + len(blob)]}
        blobs.append(blob)
        offset += len(blob)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + b"".join(blobs))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--families", default=",".join(families.FAMILIES))
    parser.add_argument("folder")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    torch.set_num_threads(1)
    cases, stats = [], {}
    for family in options.families.split(","):
        tensors = {}
        for i in range(options.count if family != "figure" else max(1, options.count // 10)):
            families.seed(f"{options.seed} {family} {i}")
            while True:
                case = families.FAMILIES[family]()
                case |= {"name": f"{case.pop('stem')}_{i:03d}", "family": family, "file": family + ".safetensors"}
                try:
                    fields, rows = compute(case)
                    break
                except Redraw:
                    pass
            if rows:
                stats[case["name"]] = {"rows": rows}
            tensors |= {f"{case['name']}/{k}": v for k, v in fields.items()}
            cases.append(case)
        write_safetensors(os.path.join(options.folder, family + ".safetensors"), tensors)
    for name, value in ("manifest", {"format": 1, "set": "drawn", "seed": options.seed, "cases": cases}), \
            ("figure_stats", {"cases": stats}):
        with open(os.path.join(options.folder, name + ".json"), "w") as file:
            json.dump(value, file, allow_nan=False)
    print(f"{len(cases)} cases in {options.folder}")


if __name__ == "__main__":
    main()
