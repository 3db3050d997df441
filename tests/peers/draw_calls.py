"""Draws random calls of functions that PyTorch has under the same name, runs them there, and writes them with what came out.

    python3 tests/peers/draw_calls.py [--seed 1] [--count 2000] [--only PATTERN] FOLDER

tests/peers/calls.lua makes the same calls and compares: values, types, shapes, gradients, strides of views, and whether a call
is an error. calls.py draws the calls. Every call is made a second time in float64: a result may be as near to that as
PyTorch's own is. (PyTorch 2.15 itself damages its memory in rare calls and aborts: take another seed.)
"""
import argparse
import json
import os
import random
import re
import sys
import warnings

import safetensors.torch
import torch

import calls
from calls import Axis, Index, Range, T

warnings.filterwarnings("ignore")
torch.set_num_threads(1)
BLOCK = 500


def build(spec, dtype=None):
    """The tensor of a drawn argument: its base, looked at through steps, as a leaf of the graph."""
    base = spec.base
    if dtype and base.is_floating_point():
        base = base.to(dtype)
    x = base.clone()
    for step in spec.steps:
        x = getattr(x, step[0])(*step[1:])
    x = x.detach()
    if spec.grad:
        x.requires_grad_()
    return x


def run(call, dtype=None):
    """-> results (a list of tensors and others), leaves, parameters' gradients and buffers of a module."""
    leaves = [build(spec, dtype) for spec in call.tensors]
    used = [x * 1 if spec.grad and call.in_place and i == 0 else x.clone() if call.in_place and i == 0 else x
            for i, (spec, x) in enumerate(zip(call.tensors, leaves))]

    def value(v):
        if isinstance(v, T):
            return used[v.i]
        if isinstance(v, Range):
            return slice(v.first, v.last, v.step)
        if isinstance(v, (list, tuple)):
            return type(v)(value(e) for e in v)
        return v

    args, options = [value(v) for v in call.args], {k: value(v) for k, v in call.options.items()}
    extra = {}
    if call.kind == "method":
        out = getattr(args[0], call.name)(*args[1:], **options)
    elif call.kind == "getitem":
        out = args[0][tuple(args[1])]
    elif call.kind == "setitem":
        out = args[0]
        out[tuple(args[1])] = args[2]
    elif call.kind == "optim":
        return optimise(call, leaves), leaves, extra
    elif call.kind == "module":
        net = getattr(torch.nn, call.name)(*args, **options)
        net = net.to(dtype or call.dtype)
        net.load_state_dict(call.state)
        net.train(call.train)
        out = net(*used)
        extra = net
    else:
        space = {"torch": torch, "functional": torch.nn.functional}[call.kind]
        out = getattr(space, call.name)(*args, **options)
    flat = []

    def flatten(v):
        if isinstance(v, (list, tuple)):
            for e in v:
                flatten(e)
        else:
            flat.append(v)
    flatten(out)
    return flat, leaves, extra


def optimise(call, leaves):
    parameters, lrs, norms = leaves[:call.parameters], [], []
    optimizer = getattr(torch.optim, call.name)(parameters, **call.options)
    schedule = call.schedule and getattr(torch.optim.lr_scheduler, call.schedule)(
        optimizer, *call.schedule_args[0], **call.schedule_args[1])
    for step in range(call.steps):
        for i, p in enumerate(parameters):
            p.grad = leaves[call.parameters * (step + 1) + i].clone()
        if call.clip:
            norms.append(float(torch.nn.utils.clip_grad_norm_(parameters, call.clip, norm_type=call.norm_type)))
        optimizer.step()
        if schedule:
            schedule.step(call.metrics[step]) if call.schedule == "ReduceLROnPlateau" else schedule.step()
        lrs.append(optimizer.param_groups[0]["lr"])
    return [p.detach().clone() for p in parameters] + [torch.tensor(lrs, dtype=torch.float64), torch.tensor(norms, dtype=torch.float32)]


def first_differentiable(results):
    for i, y in enumerate(results):
        if torch.is_tensor(y) and y.requires_grad:
            return i
    return None


def backward(results, leaves, net, k, gout):
    results[k].backward(gout.to(results[k].dtype))
    grads = {str(i): x.grad for i, x in enumerate(leaves) if x.grad is not None}
    if net:
        grads |= {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    return grads


def lua(v):
    """An argument as Lua takes it: axes and positions from 1."""
    if isinstance(v, T):
        return {"tensor": v.i + 1}
    if isinstance(v, (Axis, Index)):
        return int(v) + 1 if v >= 0 else int(v)
    if isinstance(v, Range):
        return [] if v.last is None else [v.first + 1, v.last, v.step]
    if isinstance(v, (list, tuple)):
        return [lua(e) for e in v]
    if isinstance(v, torch.dtype):
        return str(v)[6:]
    if isinstance(v, float) and (v != v or v in (float("inf"), -float("inf"))):
        return {"number": str(v)}
    return v


def steps_of(spec):
    moved = []
    for step in spec.steps:
        if step[0] in ("transpose", "narrow"):
            more = 1 if step[0] == "transpose" else 0
            moved.append([step[0], step[1] + 1, step[2] + 1] + list(step[3:]) if more or step[0] == "narrow" else step)
        else:
            moved.append(list(step))
    return moved


def strides(y):
    return list(y.stride()) if y.numel() else None


def record(call, number, tensors):
    """The case for Lua; its tensors are added under names that begin with its number."""
    def keep(name, t):
        tensors[f"{number}/{name}"] = t.detach().clone().contiguous()

    case = {"number": number, "kind": call.kind, "name": call.name, "in_place": call.in_place, "text": call.text(),
            "args": [lua(v) for v in call.args] + [lua(call.options[k]) for k in call.by_position],
            "options": {k: "cumulative" if k == "momentum" and v is None else lua(v) for k, v in call.options.items()
                        if k not in call.by_position},
            "tensors": [], "elementwise": call.elementwise, "view": call.view}
    for i, spec in enumerate(call.tensors):
        keep(f"in.{i + 1}", spec.base + 1 if spec.index else spec.base)
        case["tensors"].append({"steps": steps_of(spec), "grad": spec.grad})
    if call.kind == "optim":
        case |= {"steps": call.steps, "parameters": call.parameters, "schedule": call.schedule, "schedule_args": call.schedule_args,
                 "metrics": call.metrics, "clip": call.clip, "norm_type": lua(call.norm_type)}
    if call.kind == "module":
        case["train"] = call.train
        case["state"] = sorted(call.state)
        case["dtype"] = str(call.dtype)[6:]
        for name, t in call.state.items():
            keep("state." + name, t)
    try:
        results, leaves, net = run(call)
        case["results"] = []
        exact = None
        try:
            exact, exact_leaves, exact_net = run(call, torch.float64)
        except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError):
            pass
        for i, y in enumerate(results):
            if not torch.is_tensor(y):
                case["results"].append({"value": lua(y) if not isinstance(y, (tuple, torch.Size)) else list(y)})
                continue
            entry = {"dtype": str(y.dtype)[6:], "shape": list(y.shape), "requires_grad": y.requires_grad, "strides": strides(y),
                     "shares": bool(call.tensors) and y.numel() > 0 and any(
                         y.untyped_storage().data_ptr() == x.untyped_storage().data_ptr() for x in leaves)}
            if str(y.dtype)[6:] not in ("float32", "float64", "bfloat16", "int64", "int32", "uint8", "bool"):
                return None
            if y.dim() > 8:
                return None
            keep(f"out.{i + 1}", y + 1 if i in call.index_results else y)
            if exact and y.is_floating_point() and torch.is_tensor(exact[i]):
                keep(f"exact.{i + 1}", exact[i])
            case["results"].append(entry)
        k = first_differentiable(results)
        if k is not None:
            gout = torch.randn(results[k].shape).to(results[k].dtype)
            keep("gout", gout)
            case["differentiated"] = k + 1
            try:
                grads = backward(results, leaves, net, k, gout)
                exact_grads = backward(exact, exact_leaves, exact_net, k, gout) if exact and exact[k].requires_grad else {}
                case["gradients"] = {}
                for name, g in grads.items():
                    name = str(int(name) + 1) if name.isdigit() else name
                    case["gradients"][name] = {"shape": list(g.shape)}
                    keep("grad." + name, g)
                for name, g in exact_grads.items():
                    keep("exact_grad." + (str(int(name) + 1) if name.isdigit() else name), g)
            except (RuntimeError, ValueError, NotImplementedError) as error:
                case["gradient_error"] = str(error)[:200]
        if net:
            case["buffers"] = []
            for name, b in net.named_buffers():
                case["buffers"].append(name)
                keep("buffer." + name, b)
    except (RuntimeError, ValueError, TypeError, IndexError, NotImplementedError, OverflowError, AssertionError) as error:
        case["error"] = str(error).split("\n")[0][:200]
        case["error_kind"] = type(error).__name__
    return case


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--only", default="")
    options = parser.parse_args()
    os.makedirs(options.folder, exist_ok=True)
    rng = random.Random(options.seed)
    torch.manual_seed(options.seed)
    cases, tensors, blocks, number = [], {}, 0, 0
    families = [f for f in calls.FAMILIES if re.search(options.only, f.__name__)]
    if not families:
        sys.exit(f"draw_calls: no family is called {options.only}")

    def flush():
        nonlocal cases, tensors, blocks
        with open(f"{options.folder}/calls_{blocks}.json", "w") as file:
            json.dump(cases, file)
        safetensors.torch.save_file(tensors, f"{options.folder}/calls_{blocks}.safetensors")
        cases, tensors, blocks = [], {}, blocks + 1

    for _ in range(options.count):
        call = rng.choice(families)(rng)
        number += 1
        case = record(call, number, tensors)
        if case:
            cases.append(case)
        if len(cases) == BLOCK:
            flush()
    if cases:
        flush()
    with open(f"{options.folder}/blocks", "w") as file:
        file.write(str(blocks))
    print(f"drew {number} calls, seed {options.seed}")


main()
