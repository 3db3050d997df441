"""PyTorch's side of bench/cuda.lua: the same names, shapes and way to measure. Prints name<TAB>milliseconds."""
import math
import sys

try:
    import torch
except ImportError:
    sys.exit("python3 has no torch (scripts/install_peers)")
import torch.nn as nn
import torch.nn.functional as F

if not torch.cuda.is_available():
    sys.exit("PyTorch %s sees no GPU" % torch.__version__)
torch.backends.cudnn.benchmark = True
torch.backends.cuda.matmul.allow_tf32 = False
torch.backends.cudnn.allow_tf32 = False
print("# PyTorch %s, cuDNN %s, float32 without TF32, cudnn.benchmark" % (torch.__version__, torch.backends.cudnn.version()))
N, C, S = 32, 64, 64
device = "cuda"


def image(channels=C):
    return torch.randn(N, channels, S, S, device=device).to(memory_format=torch.channels_last)


def forward(fn, x):
    def run():
        with torch.no_grad():
            fn(x)
    return run


def both(net, x):
    x.requires_grad_()
    gradient = torch.randn_like(net(x))

    def run():
        x.grad = None
        for p in getattr(net, "parameters", list)():
            p.grad = None
        net(x).backward(gradient)
    return run


def copy():
    x, y = torch.zeros(2 ** 26, device=device), torch.zeros(2 ** 26, device=device)
    return lambda: y.copy_(x)


def matmul():
    a, b = torch.randn(4096, 4096, device=device), torch.randn(4096, 4096, device=device)
    return lambda: a @ b


def softmax():
    x = torch.randn(4096, 50257, device=device)
    return lambda: F.softmax(x, 1)


def cross_entropy():
    x, target = torch.randn(4096, 50257, device=device).requires_grad_(), torch.randint(0, 50257, (4096,), device=device)

    def run():
        x.grad = None
        F.cross_entropy(x, target).backward()
    return run


def adam():
    p = torch.randn(20000000, device=device).requires_grad_()
    p.grad = torch.randn_like(p)
    return torch.optim.Adam([p], lr=1e-3, fused=True).step


class Causal(nn.Module):
    """experiments/language_model/causal.lua."""

    def __init__(self, vocabulary=256, width=128, depth=6, kernel=3, dilations=(1, 2, 4, 8, 16, 1)):
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, width)
        self.norms = nn.ModuleList(nn.RMSNorm(width, eps=1e-5) for _ in range(depth + 1))
        self.convs = nn.ModuleList(nn.Conv1d(width, 2 * width, kernel, dilation=dilations[i % len(dilations)]) for i in range(depth))
        self.outs = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.head = nn.Linear(width, vocabulary)

    def forward(self, tokens):
        x = self.embedding(tokens)
        for norm, conv, out in zip(self.norms, self.convs, self.outs):
            h = F.pad(norm(x).transpose(1, 2), ((conv.kernel_size[0] - 1) * conv.dilation[0], 0))
            value, gate = conv(h).chunk(2, 1)
            x = x + out((value * gate.sigmoid()).transpose(1, 2))
        return self.head(self.norms[-1](x))


def language_model(batch, length):
    net = Causal().to(device)
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, fused=True)
    tokens = torch.randint(0, 256, (batch, length), device=device)
    target = torch.randint(0, 256, (batch, length), device=device)

    def run():
        optimizer.zero_grad()
        loss = F.cross_entropy(net(tokens).transpose(1, 2), target)
        loss.backward()
        optimizer.step()
        return loss.item()
    return run


rows = [
    ("copy 256 MB", copy),
    ("matmul 4096, float32", matmul),
    ("GELU", lambda: forward(F.gelu, image())),
    ("batch norm, training", lambda: forward(nn.BatchNorm2d(C).to(device), image())),
    ("batch norm, training, with backward", lambda: both(nn.BatchNorm2d(C).to(device), image())),
    ("RMS norm 16384 x 1024, with backward", lambda: both(nn.RMSNorm(1024).to(device), torch.randn(16384, 1024, device=device))),
    ("max pool 2, with backward", lambda: both(nn.MaxPool2d(2), image())),
    ("bilinear upsampling by 2, with backward", lambda: both(nn.Upsample(scale_factor=2, mode="bilinear"), image())),
    ("softmax 4096 x 50257", softmax),
    ("cross entropy 4096 x 50257, with backward", cross_entropy),
    ("Adam, 20 million parameters", adam),
    ("convolution 3 x 3", lambda: forward(nn.Conv2d(C, C, 3, padding=1).to(device, memory_format=torch.channels_last), image())),
    ("convolution 3 x 3, with backward",
     lambda: both(nn.Conv2d(C, C, 3, padding=1).to(device, memory_format=torch.channels_last), image())),
    ("language model step, causal, 8 x 128", lambda: language_model(8, 128)),
    ("language model step, causal, 64 x 512", lambda: language_model(64, 512)),
]


def elapsed(fn, calls):
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start.record()
    for _ in range(calls):
        fn()
    end.record()
    end.synchronize()
    return start.elapsed_time(end) / calls


for name, make in rows:
    try:
        run = make()
        for _ in range(5):
            run()
        torch.cuda.synchronize()
        calls = max(1, math.ceil(20 / max(1e-3, elapsed(run, 3))))
        times = sorted(elapsed(run, calls) for _ in range(11))
        print("%s\t%.6f" % (name, times[5]), flush=True)
    except Exception as error:  # the other rows go on
        print("# PyTorch: %s: %s" % (name, str(error).splitlines()[0]), flush=True)
    torch.cuda.empty_cache()
