"""The families of cases: each function draws one case as tests/golden/README.md describes them."""
import random
import zlib

import torch
import torch.nn.functional as F
from torch import nn

import masked_torch.nn as mnn
from operators import op

rng = random.Random()


def seed(text):
    rng.seed(text)
    torch.manual_seed(zlib.crc32(text.encode()))


def pick(*choices):
    return rng.choice(choices)


def randn(*shape):
    return torch.randn(*shape)


def chance(p):
    return rng.random() < p


def dtype_of_case():
    return "F64" if chance(0.25) else "F32"


def module(family, name, args, dtype):
    """A layer from the manifest's arguments (lists are tuples in Python)."""
    args = {k: tuple(v) if isinstance(v, list) else v for k, v in args.items()}
    return getattr(family, name)(**args, dtype=dtype)


def differentiate(results, outputs, upstream, leaves):
    """Adds grad.NAME for the leaves: of the sum of upstream * output."""
    loss = sum((y * upstream(name, y)).sum() for name, y in outputs.items())
    for name, g in zip(leaves, torch.autograd.grad(loss, list(leaves.values()), allow_unused=True)):
        results["grad." + name] = torch.zeros_like(leaves[name]) if g is None else g
    return results


# ---- masks -----------------------------------------------------------------------------------------------------------

BINARY = "ones", "zero", "bspatial", "bchan", "left", "right", "box", "hole", "odd"


def mask_like(kind, shape):
    """A mask of a kind; shape (N, C, *S), sizes of 1 as the mask's shape says."""
    n, c, *s = shape
    one = torch.ones(shape)
    if kind == "ones" or not s and kind in ("left", "right", "box", "hole", "odd"):
        return one
    if kind == "zero":
        return one * 0
    if kind == "bspatial":
        return (torch.rand(n, 1, *s) < pick(0.3, 0.6, 0.9)).float() * one
    if kind == "bchan":
        return (torch.rand(shape) < pick(0.2, 0.6, 0.9)).float()
    if kind in ("frac", "fspatial"):
        m = torch.rand(shape if kind == "frac" else (n, 1, *s))
        m[torch.rand(m.shape) < 0.25] = 0
        m[torch.rand(m.shape) < 0.25] = 1
        return m * one
    for i in range(n):
        m = torch.zeros(s) if kind in ("left", "right", "box") else torch.ones(s)
        sizes = [rng.randint(0 if chance(0.1) else 1, k) for k in s]
        if kind in ("left", "right"):
            m[..., (slice(s[-1] - sizes[-1], None) if kind == "left" else slice(sizes[-1]))] = 1
        elif kind == "box":
            m[tuple(slice(k) for k in sizes)] = 1
        elif kind == "hole":
            m[tuple(slice(k // 3, k // 3 + max(1, k // 2)) for k in s)] = 0
        elif kind == "odd":
            m[tuple(slice(None, None, 2) for _ in s)] = 0
        one[i] *= m
    return one


def draw_mask(kind, how, x):
    n, c, *s = x.shape
    sizes = {"nc": (n, c), "n1": (n, 1), "1c": (1, c), "11": (1, 1), "sp": (1, 1)}[how]
    m = mask_like(kind, (*sizes, *s))
    return m[0, 0] if how == "sp" else m


# ---- convolutions ----------------------------------------------------------------------------------------------------

def conv():
    dims = pick(1, 2, 2, 3)
    kind = pick("mconv", "mconv", "pconv", "pconv1c")
    groups = pick(1, 1, 1, 2, 3)
    cin, cout = groups * pick(1, 2, 3, 5 if groups == 1 else 2), groups * pick(1, 2, 3)
    if groups == 1 and chance(0.1):
        cin, cout = pick((17, 9), (4, 33), (32, 16))
    masked = kind == "mconv"
    with_mask = not chance(0.15)
    axes = [draw_axis(dims, masked, with_mask) for _ in range(dims)]
    k, stride, padding, dilation, size = map(list, zip(*axes))
    if not masked and chance(0.15):
        padding, stride = "same", [1] * dims
    elif not masked and chance(0.05) and all(s > d * (n - 1) for s, d, n in zip(size, dilation, k)):
        padding = "valid"
    args = {"in_channels": cin, "out_channels": cout, "kernel_size": k, "stride": stride, "padding": padding,
            "dilation": dilation, "groups": groups, "bias": chance(0.75), "eps": pick(1e-8, 1e-8, 1e-8, 1e-3, 0.5)}
    if not masked:
        args["multichannel"] = kind == "pconv"
    cls = ("MaskedConv" if masked else "PartialConv") + f"{dims}d"
    x = randn(pick(1, 2, 3), cin, *size)
    case = {"stem": f"{kind}{dims}d", "layer": cls, "args": args, "mode": "any", "dtype": dtype_of_case(), "premasked": True,
            "mask_kind": "none", "compat": []}
    parameters = dict(module(mnn, cls, args, torch.float32).named_parameters())
    fields = {"param." + n: p.detach().clone() for n, p in parameters.items()}
    if chance(0.3):
        fields = {n: randn(*p.shape) for n, p in fields.items()}
    if with_mask:
        hows = {"mconv": ("nc", "nc", "nc", "1c"), "pconv": ("nc", "n1", "1c", "11", "sp"), "pconv1c": ("11", "sp")}[kind]
        how = pick(*hows)
        case["mask_kind"] = pick(*BINARY, "frac", "frac", "fspatial", "bchan")
        case["mask_shape"] = how
        fields["in.mask"] = draw_mask(case["mask_kind"], how, x)
        case["premasked"] = not chance(0.2)
        if case["premasked"]:
            x = x * fields["in.mask"]
        elif bool((fields["in.mask"] == 0).any()):
            case["compat"].append("input_not_masked")
        if masked and chance(0.1):
            fields["param.weight"][rng.randrange(cout)] = 0
            case["compat"].append("zero_filter")

    def run(v, upstream):
        layer = module(mnn, cls, args, v["in.x"].dtype)
        layer.load_state_dict({n: v["param." + n] for n in parameters})
        x = v["in.x"].clone().requires_grad_()
        y, mask = layer(x, v.get("in.mask"))
        results = {"out.y": y}
        if mask is not None:
            results["out.mask"] = mask
        return differentiate(results, {"y": y}, upstream, {"x": x} | dict(layer.named_parameters()))
    return case | {"fields": {"in.x": x} | fields, "run": run}


def draw_axis(dims, masked, with_mask):
    """Kernel, stride, padding, dilation, size of one axis, within what masked_torch can do."""
    k = pick(1, 3, 3, 5, 7) if masked else pick(1, 2, 3, 3, 4, 5)
    dilation = 1 if masked and with_mask and k > 1 else pick(1, 1, 2, 3)
    stride = pick(1, 1, 2, 3, k + 1)
    padding = k // 2 + pick(0, 0, 1, k) if masked and with_mask else pick(0, 1, k // 2, k + 1)
    reach = dilation * (k - 1) + 1
    size = rng.randint(1, (19, 9, 6)[dims - 1])
    return k, stride, padding, dilation, max(size, reach - 2 * padding)


# ---- batch norm ------------------------------------------------------------------------------------------------------

def bn():
    dims = pick(1, 2, 2, 3)
    cls = f"MaskedBatchNorm{dims}d"
    c = pick(1, 2, 3, 5, 19)
    size = [] if dims == 1 and chance(0.2) else [rng.randint(1, 6) for _ in range(dims)]
    n = pick(1, 2, 3, 4)
    if n * (torch.Size(size).numel()) < 2:
        n = 3
    mode = pick("train", "train", "eval")
    args = {"num_features": c, "eps": pick(1e-5, 1e-5, 1e-3, 1e-8, 0.5), "momentum": pick(0.1, 0.03, None, 1.0, 0.0),
            "affine": chance(0.75), "track_running_stats": chance(0.8)}
    kind, how = pick("none", *BINARY, "bchan", "bchan", "frac", "fspatial"), pick("nc", "nc", "n1", "1c", "11")
    premasked = not chance(0.15)
    case = {"stem": f"bn{dims}d", "layer": cls, "args": args, "mode": mode, "dtype": dtype_of_case(), "mask_kind": kind,
            "premasked": premasked}
    calls = 3 if mode == "train" else 1
    fields, tags = {}, set()
    layer = module(mnn, cls, args, torch.float32)
    for name, t in layer.state_dict().items():
        fields["param." + name] = t if name == "num_batches_tracked" else \
            torch.rand(c) + 0.5 if name == "running_var" else randn(c)
    statistics = mode == "train" or not args["track_running_stats"]
    for i in range(1, calls + 1):
        x = randn(n, c, *size) * pick(0.5, 1, 3) + pick(0, 0, 2)
        if kind != "none":
            mask = draw_mask(kind, how, x)
            fields[f"in.mask{i}"] = mask
            tags |= tags_of_bn(x, mask, mode, args, statistics, premasked)
            if premasked:
                x = x * mask
        fields[f"in.x{i}"] = x
    case["compat"] = sorted(tags)

    def run(v, upstream):
        layer = module(mnn, cls, args, v["in.x1"].dtype)
        layer.load_state_dict({n: v["param." + n] for n in layer.state_dict()})
        layer.train(mode == "train")
        results = {}
        for i in range(1, calls + 1):
            x = v[f"in.x{i}"].clone().requires_grad_()
            y, _ = layer(x, v.get(f"in.mask{i}"))
            results[f"out.y{i}"] = y.detach()
            g = upstream(f"y{i}", y)
            if i != 2:
                leaves = {f"x{i}": x} | {f"{n}{i}": p for n, p in layer.named_parameters()}
                differentiate(results, {f"y{i}": y}, lambda *_, g=g: g, leaves)
                if mode == "train":
                    results |= {f"state{i}.{n}": b.detach().clone() for n, b in layer.named_buffers()}
        if mode == "train":
            results["out.y_eval"] = layer.eval()(v["in.x1"], v.get("in.mask1"))[0]
        return results
    return case | {"fields": fields, "run": run}


def tags_of_bn(x, mask, mode, args, statistics, premasked):
    tags = set()
    if bool((mask == 0).any()):
        tags.add("bn_not_remasked")
        if not premasked:
            tags.add("input_not_masked")
    if mode == "train" and args["track_running_stats"]:
        tags.add("bn_biased_running_var")
    if bool(((mask > 0) & (mask < 1)).any()):
        tags.add("bn_fractional_variance")
    if statistics and mask.shape[0] == 1 and x.shape[0] > 1:
        tags.add("bn_batch1_count")
    if statistics and bool((mask.expand_as(x).transpose(0, 1).flatten(1).sum(1) <= 1).any()):
        tags.add("bn_empty_channel")
    return tags


# ---- small modules and chains ----------------------------------------------------------------------------------------

KEEPS_ZERO = "ReLU", "Tanh", "GELU", "SiLU", "LeakyReLU", "ELU"


def children_of_chain(x, dtype):
    """A MaskedSequential's children for data like x, and the tags they need."""
    dims, children, tags, left = x.dim() - 2, [], set(), x
    conv = pick("MaskedConv", "PartialConv")
    while not children or chance(0.75):
        name = pick("conv", "conv", "bn", "act", "act", "apply", "unmask", "unshuffle")
        c, size = left.shape[1], left.shape[2:]
        if name == "conv":
            groups = 2 if c % 2 == 0 and chance(0.3) else 1
            k = pick(1, 3)
            args = {"in_channels": c, "out_channels": 2 * pick(1, 2, 3), "kernel_size": k, "padding": k // 2,
                    "stride": pick(1, 1, 2), "groups": groups, "bias": chance(0.6)}
            if conv == "PartialConv":
                args["multichannel"] = True
            # The library's default is no eps: seen where a window holds one small weight or one small mask value.
            if conv == "PartialConv" or k == 1:
                args["eps"] = 1e-8
            child = {"class": f"{conv}{dims}d", "args": args}
        elif name == "bn":
            child = {"class": f"MaskedBatchNorm{dims}d", "args": {"num_features": c}}
            tags |= {"bn_not_remasked", "bn_biased_running_var", "bn_fractional_variance"}
        elif name == "act":
            act = pick(*KEEPS_ZERO, "Sigmoid", "Softplus")
            if act not in KEEPS_ZERO:
                tags.add("activation_not_remasked")
            child = {"class": "Masked", "args": {"module": act}}
        elif name == "unshuffle":
            if any(s % 2 for s in size) or c > 8:
                continue
            child = {"class": f"MaskedUnshuffle{dims}d", "args": {"downscale_factor": 2}}
        else:
            child = {"class": "ApplyMask" if name == "apply" else "UnMask", "args": {}}
            if name == "unmask" and dtype == "F64":
                continue
        children.append(child)
        with torch.no_grad():
            left = build(child["class"], child["args"], torch.float32).eval()(left, torch.ones_like(left))[0]
        if left.numel() <= left.shape[1]:
            break
    return children, tags


def build(cls, args, dtype):
    if cls == "MaskedSequential":
        return mnn.MaskedSequential(*(build(c["class"], c["args"], dtype) for c in args["children"]))
    if cls == "Masked":
        return mnn.Masked(getattr(nn, args["module"])())
    if "Conv" in cls or "Norm" in cls:
        return module(mnn, cls, args, dtype)
    return getattr(mnn, cls)(**args)


def modules():
    dims = pick(1, 2, 3)
    size = [2 * rng.randint(1, (8, 5, 3)[dims - 1]) for _ in range(dims)]
    x = randn(pick(1, 2, 3), pick(1, 2, 4), *size)
    dtype = dtype_of_case()
    cls = pick("ApplyMask", "UnMask", "SpatialMean", "MaskedSpatialMean", f"Unshuffle{dims}d", f"MaskedUnshuffle{dims}d",
               "Masked", *["MaskedSequential"] * 8)
    kind = pick(*BINARY, "frac", "bchan", "fspatial")
    args, tags, mode, how = {}, set(), "any", "nc"
    takes_mask = cls not in ("SpatialMean", f"Unshuffle{dims}d")
    if "huffle" in cls:
        args["downscale_factor"] = pick(1, 2)
    elif cls == "Masked":
        args["module"] = pick(*KEEPS_ZERO, "Sigmoid", "Softplus")
        if args["module"] not in KEEPS_ZERO:
            tags.add("activation_not_remasked")
    elif cls in ("UnMask", "MaskedSpatialMean") and chance(0.5):
        args["eps"] = pick(1e-8, 1e-3, 0.5)
    elif cls == "MaskedSequential":
        mode = pick("train", "train", "eval")
        children, tags = children_of_chain(x, dtype)
        args["children"] = children
    if cls in ("ApplyMask", "UnMask", "Masked") and chance(0.4):
        how = pick("n1", "1c", "11")
    with_mask = takes_mask and (cls == "MaskedSequential" or not chance(0.15))
    premasked = not with_mask or not (cls in ("ApplyMask", "UnMask") and chance(0.7))
    fields = {}
    if with_mask:
        fields["in.mask"] = draw_mask(kind, how, x)
        if premasked:
            x = x * fields["in.mask"]
        elif cls == "UnMask" and bool((fields["in.mask"] == 0).any()):
            tags.add("input_not_masked")
    for name, t in build(cls, args, torch.float32).state_dict().items():
        fields["param." + name] = t.detach().clone() if not t.is_floating_point() else \
            torch.rand(t.shape) + 0.5 if name.endswith("running_var") else randn(*t.shape)

    def run(v, upstream):
        layer = build(cls, args, v["in.x"].dtype)
        layer.load_state_dict({n: v["param." + n] for n in layer.state_dict()})
        layer.train(mode != "eval")
        x = v["in.x"].clone().requires_grad_()
        out = layer(x, v.get("in.mask")) if takes_mask else (layer(x), None)
        results = {"out.y": out[0]}
        if out[1] is not None:
            results["out.mask"] = out[1]
        differentiate(results, {"y": out[0]}, upstream, {"x": x} | dict(layer.named_parameters()))
        if mode == "train":
            results |= {"state1." + n: b for n, b in layer.named_buffers() if not n.endswith("mask_weight")}
        return results
    return {"stem": cls.lower(), "layer": cls, "args": args, "mode": mode, "dtype": dtype, "premasked": premasked,
            "mask_kind": kind if with_mask else "none", "compat": sorted(tags), "fields": {"in.x": x} | fields, "run": run}


# ---- the activation figure -------------------------------------------------------------------------------------------

def figure():
    factor = pick(2, 2, 3)
    depth = rng.randint(1, 5 if factor == 2 else 3)
    args = {"depth": depth, "in_channels": pick(1, 3, 3), "downscale_factor": factor, "scale": pick(1, 1, 2), "base": factor,
            "bias": chance(0.5), "activation": chance(0.5), "multichannel": True}
    side = factor**depth * pick(2, 2, 3)      # the tolerance of a single pixel would hang on luck
    x = randn(1, args["in_channels"], side, side)
    kind = pick("bchan", "bspatial", "hole", "box", "odd")
    fields = {"in.x": x, "in.mask": draw_mask(kind, "nc", x)}

    def networks(dtype):
        def layers(conv, unshuffle, wrap, **more):
            c, made = args["in_channels"], []
            for i in range(depth):
                out = args["scale"] * args["base"]**i * factor**2
                made += [unshuffle(factor), conv(c * factor**2, out, 3, padding=1, bias=args["bias"], dtype=dtype, **more)]
                if args["activation"]:
                    made.append(wrap(nn.ReLU()))
                c = out
            return made
        return {"conv": nn.Sequential(*layers(nn.Conv2d, nn.PixelUnshuffle, lambda m: m)),
                "mconv": mnn.MaskedSequential(*layers(mnn.MaskedConv2d, mnn.MaskedUnshuffle2d, mnn.Masked)),
                "pconv": mnn.MaskedSequential(*layers(mnn.PartialConv2d, mnn.MaskedUnshuffle2d, mnn.Masked, multichannel=True))}
    for name, t in networks(torch.float32)["conv"].state_dict().items():
        fields["param." + name] = t.clone()

    def run(v, upstream):
        results, step = {}, 3 if args["activation"] else 2
        with torch.no_grad():
            for net, layers in networks(v["in.x"].dtype).items():
                layers.load_state_dict({n: v["param." + n] for n in layers.state_dict()})
                y, mask = v["in.x"] * v["in.mask"], None if net == "conv" else v["in.mask"]
                for i, layer in enumerate(layers, 1):
                    y, mask = (layer(y), None) if net == "conv" else layer(y, mask)
                    if i % step == 0:
                        k = i // step
                        results[f"out.{net}.y{k}"] = y
                        if mask is not None:
                            results[f"out.{net}.mask{k}"] = mask
                        results[f"out.{net}.panel{k}"] = (y if mask is None else y * mask)[0].mean(0)
        return results

    def rows(v):
        table = []
        for net in "conv", "mconv", "pconv":
            for k in range(depth + 1):
                y = v[f"out.{net}.y{k}"] if k else v["in.x"] * v["in.mask"]
                mask = v["in.mask"] if k == 0 else v.get(f"out.{net}.mask{k}")
                valid = y if mask is None else y[mask > 0]
                table.append({"net": net, "depth": k, "printed": moments(y, 1e-8), "valid": moments(valid, 0)})
        return table
    return {"stem": "figure", "layer": "figure", "args": args, "mode": "eval", "dtype": "F32", "mask_kind": kind,
            "fields": fields, "run": run, "rows": rows}


def moments(y, eps):
    y = y.flatten()
    d = y - y.mean()
    std = d.square().mean().sqrt()
    values = {"mean": y.mean(), "std": std, "skewness": (d**3).mean() / (std**3 + eps), "kurtosis": (d**4).mean() / (std**4 + eps)}
    return {"count": y.numel()} | {k: None if torch.isnan(v) else float(v) for k, v in values.items()}


# ---- plain operators -------------------------------------------------------------------------------------------------

def ops():
    layer, args, fields, function = op(pick, chance, randn, rng)

    def run(v, upstream):
        v = {k[3:]: t.clone().requires_grad_() if t.is_floating_point() and k != "in.class_weight" else t for k, t in v.items()}
        y = function(F, v, args)
        return differentiate({"out.y": y}, {"y": y}, upstream, {k: t for k, t in v.items() if t.requires_grad})
    return {"stem": layer, "layer": layer, "args": args, "mode": "any", "dtype": dtype_of_case(),
            "fields": {"in." + k: v for k, v in fields.items()}, "run": run}


FAMILIES = {"conv": conv, "bn": bn, "modules": modules, "figure": figure, "ops": ops}
