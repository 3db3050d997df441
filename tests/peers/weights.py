"""Exchanges weights with PyTorch and masked_torch as safetensors files, in both directions.

    weights.py write FOLDER     networks with random weights: their states, inputs and outputs
    luajit tests/peers/weights.lua FOLDER     loads those and compares; writes states and outputs of its own
    weights.py check FOLDER     loads these and compares
"""
import ast
import collections
import json
import os
import sys
from typing import Callable

import torch
from safetensors.torch import load_file, save_file
from torch import nn, Tensor

sys.path.insert(0, os.environ.get("MASKED_TORCH_PYTHON", ""))
import masked_torch.nn as mnn
from networks import LANGUAGE_MODEL, NETWORKS

LIMIT = 1e-5  # of the largest value


def layer(spec):
    name, *arguments = spec
    options = arguments.pop() if arguments and isinstance(arguments[-1], dict) else {}
    arguments = [layer(a) if isinstance(a, list) and isinstance(a[0], str) else tuple(a) if isinstance(a, list) else a for a in arguments]
    return getattr(mnn if hasattr(mnn, name) else nn, name)(*arguments, **options)


def network(entry):
    layers = [layer(spec) for spec in entry["layers"]]
    return mnn.MaskedSequential(*layers) if entry["masked"] else nn.Sequential(*layers)


def language_model():
    """The class as published; the rest of its file needs packages that this check does not."""
    path = os.path.join(os.environ["MASKED_TORCH_PYTHON"], "examples/autoregressive_language_model.py")
    with open(path) as file:
        tree = ast.parse(file.read())
    tree.body = [n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "AutoregressiveLanguageModel"]
    scope = {"torch": torch, "nn": nn, "mnn": mnn, "Tensor": Tensor, "Callable": Callable}
    exec(compile(tree, path, "exec"), scope)
    e = LANGUAGE_MODEL
    return scope["AutoregressiveLanguageModel"](depth=e["depth"], scale=e["scale"], base=e["base"], downscale_factor=2,
                                                sequence_dim=e["context"], num_embeddings=e["vocabulary"], embedding_dim=e["width"])


def randomise(net):
    for name, t in net.state_dict().items():
        if name.endswith("num_batches_tracked"):
            t.fill_(7)
        elif name.endswith("running_var"):
            t.uniform_(0.5, 2)
        else:
            t.normal_(0.1, 0.4)


def inputs(entry):
    if "layers" not in entry:
        lengths = torch.tensor([32, 19, 5])
        return [torch.randint(0, entry["vocabulary"], (3, 32)), lengths]
    x = torch.randn(entry["shape"])
    if not entry["masked"]:
        return [x]
    mask = (torch.rand(entry["shape"]) > 0.35).float()
    return [x * mask, mask]


def run(net, arguments):
    with torch.no_grad():
        result = net(*arguments)
    return [t for t in (result if isinstance(result, tuple) else (result,)) if t is not None]


def entries():
    for i, entry in enumerate(NETWORKS + [LANGUAGE_MODEL]):
        yield f"{i:03}", entry, (network(entry) if "layers" in entry else language_model()).eval()


def write(folder):
    torch.manual_seed(5)
    for number, entry, net in entries():
        randomise(net)
        save_file({k: v.contiguous() for k, v in net.state_dict().items()}, f"{folder}/{number}.theirs.safetensors")
        given = inputs(entry)
        tensors = {f"in.{i}": t for i, t in enumerate(given, 1)}
        tensors |= {f"out.{i}": t.contiguous() for i, t in enumerate(run(net, given), 1)}
        save_file({k: v.clone() for k, v in tensors.items()}, f"{folder}/{number}.theirs.outputs.safetensors")
    with open(f"{folder}/networks.json", "w") as file:
        json.dump(NETWORKS + [LANGUAGE_MODEL], file)


def check(folder):
    worst, failed = collections.defaultdict(float), 0
    with open(f"{folder}/ours.json") as file:
        ours = {entry["name"]: entry["error"] for entry in json.load(file)}
    for number, entry, net in entries():
        try:
            net.load_state_dict(load_file(f"{folder}/{number}.ours.safetensors"), strict=True)
            tensors = load_file(f"{folder}/{number}.ours.outputs.safetensors")
            given = [tensors[f"in.{i}"] for i in (1, 2) if f"in.{i}" in tensors]
            error = 0.0
            for i, got in enumerate(run(net, given), 1):
                expected = tensors[f"out.{i}"].double()
                error = max(error, float((expected - got.double()).abs().max() / (expected.abs().max() or 1)))
            assert max(error, ours[entry["name"]]) <= LIMIT, f"error {error:.3g}, the other way {ours[entry['name']]:.3g}"
            worst[entry["name"]] = error
        except Exception as problem:  # every failing network is listed
            failed += 1
            print(f"FAILED {entry['name']}: {str(problem)[:300]}")
    for name, error in worst.items():
        print(f"{name:32} loaded by us {ours[name]:.1e}, by them {error:.1e}")
    total = len(worst) + failed
    print(f"PyTorch {torch.__version__}, masked_torch: {len(worst)} of {total} states agree in both directions within {LIMIT:g}")
    sys.exit(1 if failed or not worst else 0)


{"write": write, "check": check}[sys.argv[1]](sys.argv[2])
