"""The peers of `make bench`: PyTorch and masked_torch, driven line by line by bench/run.lua. Not for use by hand.

A row is prepared from the tensors that the driver has written (FOLDER/in_NAME.npy); its contenders are functions that are timed one
after the other; the results of ours (FOLDER/out0_NAME.npy) and of every contender are compared with float64. On a GPU a measurement ends
when the device is idle, and `precision` says what its products may be: highest float32, high TF32, medium bfloat16 (tensors of it where
a row is one operation, autocast elsewhere). Names of contenders:
    torch             eager, (N, C, *S) in memory           torch channels_last    eager (1-D: as an image of height 1)
    torch compile     torch.compile of the faster layout    masked_torch           its layers, eager; + compile
"""
import json
import logging
import os
import sys
import time

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

sys.path.insert(0, os.environ.get("MASKED_TORCH_PYTHON") or os.environ.get("PEERS", "build/peers") + "/masked_torch")
try:
    import masked_torch.nn as mnn
except ImportError:
    mnn = None

logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)  # there is no GPU: we know
device = torch.device("cpu")
CONV = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
FORMAT = {4: torch.channels_last, 5: torch.channels_last_3d}


def last(t):
    """t with neighbouring channels; 1-D data as images of height 1."""
    if t.dim() == 3:
        t = t.unsqueeze(2)
    return t.to(memory_format=FORMAT[t.dim()])


def leaf(t):
    return t.detach().clone(memory_format=torch.preserve_format).requires_grad_()


class Row:
    """contenders: name -> function without arguments; outputs: name -> function giving {name: tensor};
    expected: function giving {name: (selector, float64 tensor)}; a selector picks the part that was computed."""

    def __init__(self):
        self.contenders, self.outputs, self.missing, self.expected = {}, {}, {}, None

    def add(self, name, run, outputs=None):
        self.contenders[name] = run
        if outputs:
            self.outputs[name] = outputs

    def attempt(self, name, make):
        """make() -> (run, outputs); what fails is told, not fatal: torch.compile does not take everything."""
        try:
            run, outputs = make()
            run()
        except Exception as error:  # noqa: BLE001
            self.missing[name] = f"{type(error).__name__}: {error}".split("\n")[0][:200]
        else:
            self.add(name, run, outputs)


def whole(t):
    return t


# ---- products ---------------------------------------------------------------------------------------------------------

def gemm(row, t):
    r, a, b = Row(), t["a"], t["b"]
    y = torch.empty(row["M"], row["N"], dtype=a.dtype)
    r.add("torch", lambda: torch.mm(a, b, out=y), lambda: {"y": torch.mm(a, b)})
    r.expected = lambda: {"y": (lambda y: y[:64], a[:64].double() @ b.double())}
    return r


def linear(row, t):
    r, x, w, b, dy = Row(), t["x"], t["w"], t["b"], t["dy"]
    run = {"forward": lambda: F.linear(x, w, b), "input": lambda: torch.mm(dy, w), "weight": lambda: torch.mm(dy.t(), x)}[row["pass"]]
    r.add("torch", run, lambda: {"out": run()})
    r.expected = {
        "forward": lambda: {"out": (lambda y: y[:32], F.linear(x[:32].double(), w.double(), b.double()))},
        "input": lambda: {"out": (lambda y: y[:32], dy[:32].double() @ w.double())},
        "weight": lambda: {"out": (lambda y: y[:64], dy[:, :64].double().t() @ x.double())},
    }[row["pass"]]
    return r


# ---- convolution ------------------------------------------------------------------------------------------------------

def conv_arguments(row, dims):
    return [row["stride"]] * dims, [row["padding"]] * dims, [1] * dims, False, [0] * dims, row["groups"]


def conv(row, t):
    dims, which = len(row["size"]), row["pass"]
    needed = [which == "input", which == "weight", False]

    def make(x, w, b, dy):
        d = x.dim() - 2
        stride, padding, *rest = conv_arguments(row, d)
        if d > dims:  # an image of height 1
            padding = [0] + padding[1:]
            stride = [1] + stride[1:]
        if which == "forward":
            return lambda: torch.convolution(x, w, b, stride, padding, *rest)
        k = 0 if which == "input" else 1
        return lambda: torch.ops.aten.convolution_backward(dy, x, w, None, stride, padding, *rest, needed)[k]

    r = Row()
    plain = make(t["x"], t["w"], t["b"], t["dy"])
    r.add("torch", plain, lambda: {"out": plain()})
    fast = make(last(t["x"]), last(t["w"]), t["b"], last(t["dy"]))
    r.add("torch channels_last", fast, lambda: {"out": fast().reshape(plain().shape)})

    def expected():
        n, o = 2, max(1, min(4, row["O"] // row["groups"]))
        x, w, b, dy = (t[k].double() for k in ("x", "w", "b", "dy"))
        arguments = conv_arguments(row, dims)
        if which == "forward":
            return {"out": (lambda y: y[:n], torch.convolution(x[:n], w, b, *arguments))}
        if which == "input":
            return {"out": (lambda y: y[:n], torch.ops.aten.convolution_backward(dy[:n], x[:n], w, None, *arguments, needed)[0])}
        c = row["C"] // row["groups"]
        dw = torch.ops.aten.convolution_backward(dy[:, :o], x[:, :c], w[:o], None, *arguments[:-1], 1, needed)[1]
        return {"out": (lambda y: y[:o], dw)}

    r.expected = expected
    return r


def call(layer, x, mask):
    y = layer(x, mask) if mask is not None else layer(x)
    return y[0] if isinstance(y, tuple) else y


def both_ways(layer, x, dy, mask=None, compiled=False):
    """(run, outputs) of forward and backward against dy."""
    parameters = list(layer.parameters())
    function = torch.compile(lambda x: call(layer, x, mask)) if compiled else lambda x: call(layer, x, mask)

    def run():
        x.grad = None
        for p in parameters:
            p.grad = None
        y = function(x)
        y.backward(dy)
        return y

    def outputs():
        y = run()
        return {"y": y.detach(), "dx": x.grad, "dw": layer.weight.grad, "db": layer.bias.grad}

    return run, outputs


def layer(row, t):
    dims, module, r = len(row["size"]), row["module"], Row()
    mask = t.get("mask")

    def build(cls, w, b, **more):
        m = cls(row["C"], w.shape[0], row["kernel"], stride=row["stride"], padding=row["padding"], groups=row["groups"], **more)
        m = m.to(w.dtype)
        m.weight.data.copy_(w)
        m.bias.data.copy_(b)
        return m

    plain = getattr(nn, f"Conv{dims}d")
    x, w, b, dy = t["x"], t["w"], t["b"], t["dy"]
    run, outputs = both_ways(build(plain, w, b), leaf(x), dy)
    r.add("torch", run, outputs if mask is None else None)

    def channels_last(compiled):
        if dims == 1:
            m = nn.Conv2d(row["C"], row["O"], (1, row["kernel"]), stride=(1, row["stride"]), padding=(0, row["padding"]), groups=row["groups"])
        else:
            m = build(plain, w, b)
        m.weight.data.copy_(w.reshape(m.weight.shape))
        m.bias.data.copy_(b)
        m = m.to(memory_format=torch.channels_last if dims < 3 else torch.channels_last_3d)
        run, outputs = both_ways(m, leaf(last(x)), last(dy), compiled=compiled)
        return run, outputs if mask is None else None

    r.add("torch channels_last", *channels_last(False))
    if row.get("compile") and not row.get("no_compile"):
        r.attempt("torch compile", lambda: channels_last(True))
    original = getattr(mnn, f"{module}{dims}d", None) if mask is not None else None
    if original:
        # PartialConv without multichannel takes one mask for the whole batch only.
        more = {"multichannel": True} if module == "PartialConv" else {}
        full = mask.expand(x.shape).contiguous()
        m = build(original, w, b, **more)
        r.add("masked_torch", *both_ways(m, leaf(x), dy, full))
        if row.get("compile") and not row.get("no_compile"):
            r.attempt("masked_torch compile", lambda: both_ways(build(original, w, b, **more), leaf(x), dy, full, compiled=True))

    def expected():
        n, o = 2, row["O"] if row["groups"] > 1 else min(4, row["O"])
        cls, more = (original, {"multichannel": True} if module == "PartialConv" else {}) if original else (plain, {})
        if mask is not None and not original:
            return {}
        m64 = None if mask is None else mask.expand(x.shape).double()
        m = build(cls, w.double(), b.double(), **more)
        if mask is not None and module == "PartialConv":
            m.mask_weight = m.mask_weight.double()
        _, some = both_ways(m, leaf(x[:n].double()), dy[:n].double(), None if m64 is None else m64[:n])
        found = some()
        m = build(cls, w[:o].double(), b[:o].double(), **more)
        _, few = both_ways(m, leaf(x.double()), dy[:, :o].double(), m64)
        weights = few()
        return {"y": (lambda y: y[:n], found["y"]), "dx": (lambda y: y[:n], found["dx"]),
                "dw": (lambda y: y[:o], weights["dw"]), "db": (lambda y: y[:o], weights["db"])}

    r.expected = expected
    return r


# ---- normalisation ----------------------------------------------------------------------------------------------------

class MaskedNorm(nn.Module):
    """Our batch norm over valid elements, in plain PyTorch: only for float64."""

    def __init__(self, channels):
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))

    def forward(self, x, mask):
        over = [0] + list(range(2, x.dim()))
        shape = [1, -1] + [1] * (x.dim() - 2)
        mask = mask.expand(x.shape)
        n = mask.sum(over, keepdim=True)
        mean = (x * mask).sum(over, keepdim=True) / n
        var = (mask * (x - mean) ** 2).sum(over, keepdim=True) / n
        return mask * ((x - mean) / (var + 1e-5).sqrt() * self.weight.view(shape) + self.bias.view(shape))


class Activated(nn.Module):
    def __init__(self, norm):
        super().__init__()
        self.norm, self.weight, self.bias = norm, norm.weight, norm.bias

    def forward(self, x, mask=None):
        return F.relu(call(self.norm, x, mask))


def norm(row, t):
    dims, module, r = len(row["size"]), row["module"], Row()
    x, dy, mask = t["x"], t["dy"], t.get("mask")

    def build():
        if module == "LayerNorm":
            return Activated(nn.LayerNorm(row["C"]))
        if module == "GroupNorm":
            return Activated(nn.GroupNorm(32, row["C"]))
        return Activated(getattr(nn, f"BatchNorm{dims}d")(row["C"]))

    r.add("torch", *both_ways(build(), leaf(x), dy))
    if mask is not None:
        r.outputs.clear()
    if module != "LayerNorm" and x.dim() in FORMAT:
        run, outputs = both_ways(build(), leaf(last(x)), last(dy))
        r.add("torch channels_last", run, outputs if mask is None else None)
    if row.get("compile") and not row.get("no_compile"):
        r.attempt("torch compile", lambda: both_ways(build(), leaf(last(x) if x.dim() in FORMAT else x),
                                                     last(dy) if x.dim() in FORMAT else dy, compiled=True))
    if mask is not None and mnn:
        full = mask.expand(x.shape).contiguous()
        r.add("masked_torch", both_ways(Activated(getattr(mnn, f"MaskedBatchNorm{dims}d")(row["C"])), leaf(x), dy, full)[0])

    def expected():
        m = Activated(MaskedNorm(row["C"])) if mask is not None else build()
        _, outputs = both_ways(m.double(), leaf(x.double()), dy.double(), None if mask is None else mask.double())
        return {name: (whole, value) for name, value in outputs().items()}

    r.expected = expected
    return r


# ---- one element at a time ---------------------------------------------------------------------------------------------

class MaskedPlain(nn.Module):
    """What masked_torch's Masked(module) does; the result multiplied by the mask where the module does not keep 0."""

    def __init__(self, module, clears):
        super().__init__()
        self.module, self.clears = module, clears

    def forward(self, x, mask):
        y = self.module(x)
        return torch.where(mask != 0, y, 0) if self.clears else y


def activation(row, t):
    r, module, mask = Row(), row["module"], t.get("mask")

    def make(x, dy, m):
        x = leaf(x)
        if module == "MSELoss":
            def value():
                if m is None:
                    return F.mse_loss(x, dy)
                return ((x - dy) ** 2 * m).sum() / m.expand(x.shape).sum()
        else:
            layer = getattr(nn, module)()
            masked = MaskedPlain(layer, module == "Sigmoid")

            def value():
                return masked(x, m) if m is not None else layer(x)

        def run():
            x.grad = None
            y = value()
            y.backward(*([] if y.dim() == 0 else [dy]))
            return y

        def outputs():
            y = run()
            # Dropout draws its own; under the mask only ours is 0.
            if module == "Dropout":
                return {}
            valid = 1 if m is None else (m != 0)
            return {"y": y.detach() if y.dim() == 0 else y.detach() * valid, "dx": x.grad * valid}
        return run, outputs

    r.add("torch", *make(t["x"], t["dy"], None if mask is None else mask))
    if t["x"].dim() in FORMAT:
        r.add("torch channels_last", *make(last(t["x"]), last(t["dy"]), mask))

    def expected():
        if module == "Dropout":
            return {}
        _, outputs = make(t["x"].double(), t["dy"].double(), None if mask is None else mask.double())
        return {name: (whole, value) for name, value in outputs().items()}

    r.expected = expected
    return r


# ---- steps ------------------------------------------------------------------------------------------------------------

def metric(logits, target):
    return (torch.argmax(logits, dim=-1) != target).float().mean().item()


def loss(row, t):
    r, x, target, valid = Row(), leaf(t["x"]), t["target"] - 1, None
    if "mask" in t:
        valid = t["mask"] != 0
        target = torch.where(valid, target, -100)

    def run():
        x.grad = None
        value = F.cross_entropy(x, target)
        metric(x, target)
        value.backward()
        return value

    r.add("torch", run, lambda: {"loss": run().detach(), "dx": x.grad})
    if valid is not None:
        def select():
            x.grad = None
            some = x[valid]
            value = F.cross_entropy(some, target[valid])
            metric(some, target[valid])
            value.backward()
            return value
        r.add("torch selected", select, lambda: {"loss": select().detach(), "dx": x.grad})

    def expected():
        n = 64
        y = leaf(t["x"][:n].double())
        count = row["N"] if valid is None else int(valid.sum())
        (F.cross_entropy(y, target[:n], reduction="sum") / count).backward()
        return {"dx": (lambda g: g[:n], y.grad)}

    r.expected = expected
    return r


def adam(row, t):
    r, count = Row(), sum(1 for name in t if name.startswith("p"))

    def make(**more):
        parameters = [t[f"p{i + 1}"].clone().requires_grad_() for i in range(count)]
        for i, p in enumerate(parameters):
            p.grad = t[f"g{i + 1}"]
        optimizer = torch.optim.Adam(parameters, lr=1e-3, weight_decay=1e-5, **more)
        optimizer.step()
        first = parameters[0].detach().clone()
        return optimizer.step, lambda: {"p1": first}

    r.add("torch", *make())
    r.attempt("torch foreach", lambda: make(foreach=True))
    r.attempt("torch fused", lambda: make(fused=True))

    def expected():
        p = t["p1"].double().requires_grad_()
        p.grad = t["g1"].double()
        torch.optim.Adam([p], lr=1e-3, weight_decay=1e-5).step()
        return {"p1": (whole, p.detach())}

    r.expected = expected
    return r


def layout(row, t):
    r, x = Row(), t["x"]
    r.add("torch", lambda: x.contiguous(memory_format=torch.channels_last))
    return r


def figure(row, t):
    r, module, x, mask = Row(), row["module"], t["x"], t["mask"]
    more = {"multichannel": True} if module == "PartialConv" else {}

    def build(plain):
        layers = []
        for level in range(row["levels"]):
            w = t[f"w{level + 1}"]
            if plain:
                layers += [nn.PixelUnshuffle(2), nn.Conv2d(w.shape[1], w.shape[0], 3, padding=1, bias=False)]
            else:
                cls = getattr(mnn, module + "2d")
                layers += [mnn.MaskedUnshuffle2d(2), cls(w.shape[1], w.shape[0], 3, padding=1, bias=False, **more)]
            layers[-1].weight.data.copy_(w)
        return nn.Sequential(*layers) if plain else mnn.MaskedSequential(*layers)

    def runner(net, arguments, compiled=False):
        function = torch.compile(net) if compiled else net

        def run():
            with torch.no_grad():
                y = function(*arguments)
                return y[0] if isinstance(y, tuple) else y
        return run, lambda: {"y": run()}

    compiled = row.get("compile") and not row.get("no_compile")
    if module == "Conv":
        r.add("torch", *runner(build(True), (x,)))
        r.add("torch channels_last", *runner(build(True).to(memory_format=torch.channels_last), (last(x),)))
        if compiled:
            r.attempt("torch compile", lambda: runner(build(True), (x,), True))
    elif mnn:
        r.add("masked_torch", *runner(build(False), (x, mask)))
        r.add("masked_torch channels_last", *runner(build(False).to(memory_format=torch.channels_last), (last(x), last(mask))))
        if compiled:
            r.attempt("masked_torch compile", lambda: runner(build(False), (x, mask), True))

    def expected():
        if module != "Conv" and not mnn:
            return {}
        arguments = (x.double(),) if module == "Conv" else (x.double(), mask.double())
        net = build(module == "Conv").double()
        for m in net:
            if hasattr(m, "mask_weight"):
                m.mask_weight = m.mask_weight.double()
        return {"y": (whole, runner(net, arguments)[0]())}

    r.expected = expected
    return r


def train_step(net, optimizer, forward, target):
    def run():
        optimizer.zero_grad()
        logits = forward()
        value = F.cross_entropy(logits, target)
        metric(logits, target)
        value.backward()
        optimizer.step()
    return run


def classifier(row, t):
    r, x, target = Row(), t["x"], t["target"] - 1
    widths = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1)]

    def plain(memory_format=torch.contiguous_format):
        layers, channels = [], 1
        for width, stride in widths:
            layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU()]
            channels = width
        net = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 10)).to(memory_format=memory_format)
        image = x.to(memory_format=memory_format)
        return train_step(net, torch.optim.Adam(net.parameters(), lr=2e-3), lambda: net(image), target)

    r.add("torch", plain())
    r.add("torch channels_last", plain(torch.channels_last))
    if mnn:
        layers, channels = [], 1
        for width, stride in widths:
            layers += [mnn.MaskedConv2d(channels, width, 3, stride=stride, padding=1, bias=False), mnn.MaskedBatchNorm2d(width),
                       mnn.Masked(nn.ReLU())]
            channels = width
        body, head = mnn.MaskedSequential(*layers, ), nn.Linear(channels, 10)
        net = nn.ModuleList([body, mnn.MaskedSpatialMean(), head])
        # MaskedSequential insists on masks of the input's shape.
        mask = t["mask"].expand(x.shape).contiguous()
        r.add("masked_torch", train_step(net, torch.optim.Adam(net.parameters(), lr=2e-3), lambda: head(net[1](*body(x, mask))[0]), target))
    return r


class LanguageModel(nn.Module):
    """masked_torch's published model from its layers."""

    def __init__(self, row):
        super().__init__()
        self.embedding = nn.Embedding(row["vocabulary"], row["width"])
        self.embedding.weight.requires_grad_(False)
        self.position = nn.Parameter(torch.randn(row["width"], 1024), requires_grad=False)
        layers, channels = [mnn.ApplyMask()], row["width"]
        for i in range(row["depth"]):
            if i > 0:
                layers.append(mnn.MaskedBatchNorm1d(channels, eps=1e-5, momentum=0.03))
            width = row["scale"] * 2 ** i
            layers += [mnn.MaskedUnshuffle1d(2), mnn.MaskedConv1d(channels * 2, width, 3, padding=1)]
            if i < row["depth"] - 1:
                layers.append(mnn.Masked(nn.ReLU()))
            channels = width
        self.sequential = mnn.MaskedSequential(*layers, mnn.MaskedSpatialMean())
        self.head = nn.Linear(channels, row["vocabulary"])

    def forward(self, tokens, lengths):
        n, length = tokens.shape
        x = self.embedding(tokens).permute(0, 2, 1)
        x = x + self.position[:, -length:][None].repeat(n, 1, 1)
        places = torch.arange(length, device=tokens.device)[None].repeat(n, 1)
        mask = (places >= length - lengths[:, None])[:, None].repeat(1, x.shape[1], 1).to(x.dtype)
        # MaskedSpatialMean's mask has another shape than its result, so the sequence is walked here.
        return self.head(self.sequential(x, mask)[0])


def language_model(row, t):
    r = Row()
    if not mnn:
        return r
    tokens, target, lengths = t["tokens"] - 1, t["target"] - 1, t["lengths"]

    def make(compiled):
        net = LanguageModel(row)
        trained = [p for p in net.parameters() if p.requires_grad]
        function = torch.compile(net) if compiled else net
        optimizer = torch.optim.Adam(trained, lr=1e-3, weight_decay=1e-5, **({"fused": True} if compiled else {}))
        return train_step(net, optimizer, lambda: function(tokens, lengths), target), None

    r.add("masked_torch", make(False)[0])
    if row.get("compile") and not row.get("no_compile"):
        r.attempt("masked_torch compile", lambda: make(True))
    return r


class Windows(torch.utils.data.Dataset):
    """The windows of 1 to `longest` tokens that end before each token of a text: masked_torch's example."""

    def __init__(self, text, longest):
        self.text, self.longest = text, longest

    def __len__(self):
        return len(self.text) - 1

    def __getitem__(self, i):
        return self.text[max(0, i + 1 - self.longest):i + 1], self.text[i + 1]


def left_padded(unit):
    def collate(samples):
        longest = max(len(window) for window, _ in samples)
        longest += -longest % unit
        return (torch.stack([F.pad(window, (longest - len(window), 0)) for window, _ in samples]),
                torch.tensor([len(window) for window, _ in samples]), torch.stack([target for _, target in samples]))
    return collate


def training(row, t):
    """The loop of masked_torch's example as published: eager, its loader, a transfer, loss and metric read at every step."""
    r = Row()
    if not mnn:
        return r
    loader = torch.utils.data.DataLoader(Windows((t["text"] - 1).cpu(), row["L"]), batch_size=row["N"], shuffle=True, drop_last=True,
                                         collate_fn=left_padded(2 ** row["depth"]))
    net = LanguageModel(row)
    optimizer = torch.optim.Adam([p for p in net.parameters() if p.requires_grad], lr=1e-3, weight_decay=1e-5)

    def run():
        for _, batch in zip(range(row["steps"]), loader):
            tokens, lengths, target = (part.to(device) for part in batch)
            logits = net(tokens, lengths)
            value = F.cross_entropy(logits, target)
            metric(logits, target)
            net.zero_grad(set_to_none=True)
            value.backward()
            optimizer.step()
            value.item()

    r.add("masked_torch", run)
    return r


# ---- the conversation --------------------------------------------------------------------------------------------------

KINDS = {f.__name__: f for f in (gemm, linear, conv, layer, norm, activation, loss, adam, layout, figure, classifier, language_model,
                                 training)}
OPERATIONS = {gemm, linear, conv}  # on tensors of the precision; the other rows convert as autocast does


def deviation(outputs, expected):
    """The largest error over all outputs, each relative to the largest expected value; None where nothing is compared."""
    worst = None
    for name, (select, reference) in expected.items():
        if name not in outputs:
            continue
        found = select(outputs[name].double().reshape((-1,) + tuple(outputs[name].shape[1:])) if outputs[name].dim() else outputs[name].double())
        found = found.reshape(reference.shape)
        error = float((found - reference).abs().max() / reference.abs().max())
        worst = error if worst is None or not error <= worst else worst
    return worst


def load(folder, prefix, names):
    return {name: torch.from_numpy(np.load(f"{folder}/{prefix}_{name}.npy")).to(device) for name in names}


def narrowed(tensors):
    return {name: t.bfloat16() if t.is_floating_point() else t for name, t in tensors.items()}


def prepare(request):
    """The row with its contenders; on a GPU they compute at the precision asked for, but masked_torch's loop as it was published."""
    torch.compiler.reset() if hasattr(torch, "compiler") else None
    torch.manual_seed(1337)
    if request.get("threads"):
        torch.set_num_threads(request["threads"])
    make, row, precision = KINDS[request["row"]["kind"]], request["row"], request.get("precision")
    published = make is training
    torch.backends.cuda.matmul.allow_tf32 = precision == "high" and not published
    torch.backends.cudnn.allow_tf32 = precision == "high" or published
    tensors = load(request["folder"], "in", request["inputs"])
    with device:
        if precision != "medium" or published:
            return make(row, tensors)
        if make in OPERATIONS:
            made = make(row, narrowed(tensors))
            made.expected = make(row, tensors).expected
            return made
        with torch.autocast(device.type, torch.bfloat16):
            made = make(row, tensors)
        made.contenders = {name: torch.autocast(device.type, torch.bfloat16)(run) for name, run in made.contenders.items()}
        made.outputs = {name: torch.autocast(device.type, torch.bfloat16)(run) for name, run in made.outputs.items() if run}
        return made


def seconds(run, count, clock):
    """Per call, until the device is idle."""
    begin = clock()
    for _ in range(count):
        run()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return (clock() - begin) / count


def ceilings():
    """GFLOP/s of a large product at each precision, GB/s of a large copy."""
    def best(run):
        return min(seconds(run, 5, time.perf_counter) for _ in range(4))

    n, found = 8192, {}
    a, b = torch.randn(n, n, device=device), torch.randn(n, n, device=device)
    for precision, dtype in (("highest", torch.float32), ("high", torch.float32), ("medium", torch.bfloat16)):
        torch.backends.cuda.matmul.allow_tf32 = precision == "high"
        x, y = a.to(dtype), b.to(dtype)
        found[precision] = 2 * n ** 3 / best(lambda: x @ y) * 1e-9
    x = torch.empty(2 ** 28, device=device)
    y = torch.empty_like(x)
    found["bytes"] = 2 * x.numel() * 4 / best(lambda: y.copy_(x)) * 1e-9
    return found


def main():
    global device
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not get between the answers
    row = None
    for line in sys.stdin:
        request = json.loads(line)
        answer = {}
        try:
            command = request["command"]
            if command == "hello":
                device = torch.device(request.get("device", "cpu"))
                if device.type == "cuda" and not torch.cuda.is_available():
                    raise RuntimeError(f"PyTorch {torch.__version__} sees no GPU")
                torch.backends.cudnn.benchmark = True
                onednn = [s for s in torch.__config__.show().split("\n") if "MKL-DNN" in s]
                answer = {"torch": torch.__version__, "python": sys.version.split()[0], "masked_torch": mnn is not None,
                          "onednn": onednn[0].split("MKL-DNN")[1].split("(")[0].strip() if onednn else "none",
                          "cudnn": str(torch.backends.cudnn.version() or "none") if device.type == "cuda" else "unused",
                          "capability": torch.backends.cpu.get_cpu_capability() if hasattr(torch.backends, "cpu") else "unknown"}
            elif command == "ceilings":
                answer = ceilings()
            elif command == "prepare":
                row = None
                row = prepare(request)
                answer = {"contenders": list(row.contenders), "missing": row.missing or {"none": ""}}
            elif command == "run":
                clock = time.process_time if request.get("cpu") else time.perf_counter
                answer = {"seconds": seconds(row.contenders[request["contender"]], request["count"], clock)}
            elif command == "compare":
                with device:
                    expected = row.expected() if row.expected else {}
                errors = {name: deviation(load(request["folder"], "out" + str(i), names), expected)
                          for i, (name, names) in enumerate(request["outputs"])}
                for name, outputs in row.outputs.items():
                    if outputs:
                        errors[name] = deviation(outputs(), expected)
                answer = {"errors": {name: error for name, error in errors.items() if error is not None} or {"none": 0}}
        except Exception as error:  # noqa: BLE001
            import traceback
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)


main()
