"""The families of draw_calls.py: a function of a random generator -> Call, for everything that PyTorch has under our name."""
import torch

F32, F64, BF16, I64, I32, U8, BOOL = (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.int32, torch.uint8, torch.bool)
REAL = [F32, F32, F32, F64, BF16]
ANY = [F32, F32, F64, BF16, I64, I32, U8, BOOL]


class Axis(int):
    """A dimension: counted from 0 there, from 1 here."""


class Index(int):
    """A position, likewise."""


class Range:
    """first:last:step of a tensor's positions."""
    def __init__(self, first, last, step=1):
        self.first, self.last, self.step = first, last, step

    def __repr__(self):
        return f"{self.first}:{self.last}:{self.step}"


class T:
    """The i-th tensor of a call."""
    def __init__(self, i):
        self.i = i


class Spec:
    def __init__(self, base, steps, grad, index=False):
        self.base, self.steps, self.grad, self.index = base, steps, grad, index


class Call:
    def __init__(self, rng):
        self.rng, self.tensors, self.args, self.options = rng, [], [], {}
        self.kind, self.name, self.in_place, self.elementwise, self.view = "method", None, False, False, False
        self.index_results, self.by_position = (), ()   # results that are positions; options that stand among our arguments

    def tensor(self, shape, dtype, special=0.0, positive=False, grad=None, spread=1.0, plain=False, distinct=False):
        """Draws an argument of that shape: values, NaN and infinities with chance `special`, strides. distinct: no two are equal."""
        rng, steps, base = self.rng, [], list(shape)
        if not plain and rng.random() < 0.5:
            kind = rng.choice(["transpose", "narrow", "expand", "narrow", "transpose"])
            if kind == "transpose" and len(shape) > 1:
                a, b = rng.sample(range(len(shape)), 2)
                base[a], base[b] = base[b], base[a]
                steps.append(("transpose", a, b))
            elif kind == "narrow" and shape:
                d, before = rng.randrange(len(shape)), rng.randrange(3)
                base[d] += before + rng.randrange(2)
                steps.append(("narrow", d, before, shape[d]))
            elif kind == "expand" and shape and not self.in_place and not distinct:
                d = rng.randrange(len(shape))
                base[d] = 1
                steps.append(("expand", list(shape)))
        numel = 1
        for n in base:
            numel *= n
        if grad is None:
            grad = dtype.is_floating_point and rng.random() < 0.8
        grad = grad and dtype.is_floating_point
        if dtype.is_floating_point:
            values = torch.rand(base) * 3 + 0.1 if positive else torch.randn(base) * spread
            if distinct:
                values = torch.randperm(numel).reshape(base) * 0.25 - numel / 8
            elif not grad and rng.random() < 0.3:
                values = values.round()
            values = values.to(dtype)
            if special and numel and rng.random() < special:
                # The gradient at NaN, at infinities and at bounds is nowhere the same; PyTorch's differs from itself.
                for v in rng.sample([0.0, -0.0] if grad else [float("nan"), float("inf"), -float("inf"), 0.0, -0.0], 2):
                    values.view(-1)[rng.randrange(numel)] = v
        elif dtype == BOOL:
            values = torch.rand(base) < 0.5
        else:
            values = torch.randint(1 if positive else 0 if dtype == U8 else -4, 6, base).to(dtype)
        self.tensors.append(Spec(values, steps, bool(grad)))
        return T(len(self.tensors) - 1)

    def index(self, shape, size, dtype=I64, wrong=0.02):
        values = torch.randint(0, max(1, size), list(shape))
        if values.numel() and self.rng.random() < wrong:
            values.view(-1)[0] = self.rng.choice([size, -size - 2, -1])
        self.tensors.append(Spec(values.to(dtype), [], False, True))
        return T(len(self.tensors) - 1)

    def text(self):
        def show(v):
            if isinstance(v, T):
                s = self.tensors[v.i]
                return f"{str(s.base.dtype)[6:]}{tuple(s.base.shape)}{''.join('.' + str(x) for x in s.steps)}{'*' if s.grad else ''}"
            if isinstance(v, (list, tuple)):
                return "[" + ", ".join(show(e) for e in v) + "]"
            return repr(v)
        text = ", ".join([show(v) for v in self.args] + [f"{k}={show(v)}" for k, v in self.options.items()])
        if self.kind == "optim":
            text += f" {c_text(self)}"
        if self.kind == "module":
            text += " on " + ", ".join(show(T(i)) for i in range(len(self.tensors))) + f" train={self.train} {self.dtype}"
        return f"{self.kind}.{self.name}({text})"


def c_text(c):
    return f"{c.steps} steps, {c.schedule} {c.schedule_args}, clip {c.clip} {c.norm_type}"


def shape_of(rng, least=0, most=4, empty=0.08):
    shape = [rng.choice([1, 1, 2, 3, 4, 5, 7]) for _ in range(rng.randint(least, most))]
    if shape and rng.random() < empty:
        shape[rng.randrange(len(shape))] = 0
    return shape


def broadcast_of(rng, shape):
    """Another shape that broadcasts with it; now and then one that does not."""
    other = [n if rng.random() < 0.7 else 1 for n in shape]
    other = other[rng.choice([0, 0, 0, rng.randint(0, len(other))]):]
    if rng.random() < 0.1:
        other = [2] + [1] * max(0, len(shape) - len(other)) + other
    if other and rng.random() < 0.03:
        other[-1] += 1
    return other


def axis(rng, dims, wrong=0.03):
    if rng.random() < wrong or dims == 0:
        return Axis(rng.choice([dims, -dims - 1, 0, -1]))
    return Axis(rng.randint(-dims, dims - 1))


def axes(rng, dims):
    if dims == 0:
        return []
    picked = rng.sample(range(dims), rng.randint(1, dims))
    return [Axis(d - dims if rng.random() < 0.3 else d) for d in picked]


UNARY = ["abs", "neg", "negative", "sign", "square", "sqrt", "rsqrt", "reciprocal", "exp", "expm1", "log", "log1p", "log2", "sin",
         "cos", "tan", "atan", "tanh", "sigmoid", "floor", "ceil", "trunc", "round"]
PREDICATES = ["isnan", "isinf", "isfinite", "logical_not"]
BINARY = ["add", "sub", "mul", "div", "pow", "remainder", "fmod", "minimum", "maximum", "atan2"]
COMPARE = ["eq", "ne", "lt", "le", "gt", "ge", "logical_and", "logical_or", "logical_xor"]


def number(rng, dtype=None):
    return rng.choice([0, 1, 2, 3, -1, -2, 0.5, -1.5, 1e-3])


def unary(rng):
    c = Call(rng)
    c.elementwise = True
    c.name = rng.choice(UNARY + PREDICATES)
    c.in_place = c.name in UNARY and rng.random() < 0.2
    dtype = rng.choice(ANY)
    c.args = [c.tensor(shape_of(rng), dtype, special=0.3, spread=rng.choice([1, 1, 30]), positive=rng.random() < 0.3)]
    if c.in_place:
        c.name += "_"
    return c


def binary(rng):
    c = Call(rng)
    c.elementwise = True
    c.name = rng.choice(BINARY * 3 + COMPARE)
    c.in_place = c.name in BINARY and c.name not in ("minimum", "maximum") and rng.random() < 0.2
    shape, dtype = shape_of(rng), rng.choice(ANY)
    c.args = [c.tensor(shape, dtype, special=0.2, positive=c.name == "pow" and rng.random() < 0.5)]
    if rng.random() < 0.3 and c.name not in ("minimum", "maximum", "atan2", "logical_and", "logical_or", "logical_xor"):
        c.args.append(number(rng))
    else:
        other = dtype if rng.random() < 0.6 else rng.choice(ANY)
        c.args.append(c.tensor(broadcast_of(rng, shape), other, special=0.2))
        # The type of a tensor without dims counts here, there only beside another one.
        if any(not s.base.dim() for s in c.tensors) and other != dtype:
            return binary(rng)
    if c.name in ("add", "sub") and len(c.tensors) == 2 and rng.random() < 0.3:
        c.options["alpha"] = rng.choice([2, -1] + [0.5] * all(s.base.is_floating_point() for s in c.tensors))
    if c.name == "div" and rng.random() < 0.5:
        c.options["rounding_mode"] = rng.choice(["floor", "trunc"])
    if c.in_place:
        c.name += "_"
    return c


def choices(rng):
    c = Call(rng)
    c.elementwise = True
    shape, dtype = shape_of(rng), rng.choice(ANY)
    c.name = rng.choice(["where", "clamp", "clamp_", "lerp", "masked_fill", "masked_fill_", "masked_select", "masked_scatter", "tril", "triu",
                         "nonzero"])
    c.in_place = c.name.endswith("_")
    if c.name == "where":
        c.kind = "torch"
        c.args = [c.tensor(broadcast_of(rng, shape), BOOL), c.tensor(shape, dtype, special=0.2),
                  c.tensor(broadcast_of(rng, shape), dtype if rng.random() < 0.7 else rng.choice(ANY), special=0.2) if rng.random() < 0.7
                  else number(rng)]
    elif c.name.startswith("clamp"):
        low, high = rng.choice([None, -1, 0.5, 0]), rng.choice([None, 1, 2, -0.5])
        c.args = [c.tensor(shape, dtype, special=0.3)]
        if low is None:
            c.options["max"] = 1 if high is None else high
        else:
            c.args += [low] if high is None else [low, high]
            if not c.in_place and rng.random() < 0.3:
                c.args[1:] = [c.tensor(broadcast_of(rng, shape), dtype), c.tensor(broadcast_of(rng, shape), dtype)]
    elif c.name == "lerp":
        c.elementwise = False
        c.args = [c.tensor(shape, dtype), c.tensor(broadcast_of(rng, shape), dtype),
                  c.tensor(broadcast_of(rng, shape), dtype) if rng.random() < 0.5 else rng.choice([0, 0.25, 1, 1.5])]
    elif c.name.startswith("masked_fill"):
        mask = broadcast_of(rng, shape)
        c.args = [c.tensor(shape, dtype, special=0.2), c.tensor(mask, BOOL), rng.choice([0, 2, -1.5, float("inf"), -float("inf")])]
    elif c.name == "masked_select":
        c.args = [c.tensor(shape, dtype), c.tensor(broadcast_of(rng, shape), BOOL)]
    elif c.name == "masked_scatter":
        n = 1
        for s in shape:
            n *= s
        c.args = [c.tensor(shape, dtype), c.tensor(shape, BOOL), c.tensor([n + rng.randrange(2)], dtype)]
    elif c.name == "nonzero":
        c.args = [c.tensor(shape, dtype)]
        c.index_results = (0,)
    else:
        c.args = [c.tensor(shape_of(rng, 1), dtype), rng.randint(-3, 3)]
    return c


def reduction(rng):
    c = Call(rng)
    c.name = rng.choice(["sum", "mean", "var", "std", "prod", "amax", "amin", "norm", "logsumexp", "any", "all", "max", "min", "argmax",
                         "argmin", "median", "cumsum", "cumprod"])
    shape = shape_of(rng)
    dtype = rng.choice(ANY)
    if c.name == "median":
        dtype = rng.choice([F32, F64])      # of equal elements PyTorch may name any
    c.args = [c.tensor(shape, dtype, special=0 if c.name == "median" else 0.15, distinct=c.name == "median")]
    dims = len(shape)
    if c.name in ("cumsum", "cumprod"):
        c.args.append(axis(rng, dims))
        return c
    if c.name == "norm":
        c.args.append(rng.choice([2, 1, 3, 0, float("inf"), -float("inf"), 0.5]))
    if c.name in ("max", "min", "argmax", "argmin", "median", "prod"):
        if rng.random() < 0.7:
            c.args.append(axis(rng, dims))
            if rng.random() < 0.4:
                c.options["keepdim"] = True
        if c.name in ("argmax", "argmin"):
            c.index_results = (0,)
        elif c.name != "prod":
            c.index_results = (1,)
        return c
    if rng.random() < 0.8 or c.name in ("logsumexp",):
        c.args.append(axis(rng, dims) if rng.random() < 0.5 or dims == 0 else axes(rng, dims))
        if rng.random() < 0.4:
            c.options["keepdim"] = True
        if c.name in ("var", "std") and rng.random() < 0.4:
            c.options["correction"] = rng.choice([0, 1, 2])
    return c


def views(rng):
    c = Call(rng)
    c.elementwise, c.view = True, True
    shape, dtype = shape_of(rng, 0, 5), rng.choice(ANY)
    dims = len(shape)
    x = c.tensor(shape, dtype)
    numel = 1
    for n in shape:
        numel *= n
    c.name = rng.choice(["view", "reshape", "flatten", "unflatten", "permute", "transpose", "t", "movedim", "squeeze", "unsqueeze", "expand",
                         "narrow", "select", "split", "chunk", "unbind", "unfold", "diagonal", "contiguous", "clone", "detach",
                         "broadcast_to", "view_as"])
    a = []
    if c.name in ("view", "reshape"):
        rest, new = numel, []
        while rng.random() < 0.7:
            n = rng.choice([n for n in (1, 2, 3, 4, 5, 7) if n and rest % n == 0])
            new.append(n)
            rest = rest // n if n else rest
        new.append(rest)
        rng.shuffle(new)
        if rng.random() < 0.4:
            new[rng.randrange(len(new))] = -1
        if rng.random() < 0.05:
            new[0] = 6
        a = new
    elif c.name == "view_as":
        a = [c.tensor(shape[:-2] + [shape[-2] * shape[-1]] if dims > 1 else [1] + shape, F32)]
    elif c.name == "flatten":
        if rng.random() < 0.8:
            a = [axis(rng, dims), axis(rng, dims)]
            if rng.random() < 0.3:
                a = a[:1]
    elif c.name == "unflatten":
        d = rng.randrange(max(1, dims))
        n = shape[d] if dims else 1
        a = [Axis(d), rng.choice([[n, 1], [1, -1], [-1, 2], [1, n, 1], [n]])]
    elif c.name == "permute":
        order = [Axis(d) for d in rng.sample(range(dims), dims)]
        a = [order] if rng.random() < 0.5 and dims else order
        if not dims:
            c.name, a = "t", []
    elif c.name == "transpose":
        a = [axis(rng, dims), axis(rng, dims)]
    elif c.name == "movedim":
        a = [axis(rng, dims), axis(rng, dims)] if rng.random() < 0.5 or dims < 2 else \
            [[Axis(d) for d in rng.sample(range(dims), 2)], [Axis(d) for d in rng.sample(range(dims), 2)]]
    elif c.name == "squeeze":
        a = [] if rng.random() < 0.3 else [axis(rng, dims)]
    elif c.name == "unsqueeze":
        a = [Axis(rng.randint(-dims - 1, dims + (rng.random() < 0.05)))]
    elif c.name in ("expand", "broadcast_to"):
        new = [n if n != 1 else rng.choice([1, 3, -1 if c.name == "expand" else 2]) for n in shape]
        if rng.random() < 0.4:
            new = [2] + new
        if rng.random() < 0.05 and new:
            new[-1] += 1
        a = [new] if c.name == "broadcast_to" else new
    elif c.name == "narrow":
        d = axis(rng, dims)
        n = shape[d] if dims and -dims <= d < dims else 1
        first = rng.randint(0, n)
        a = [d, Index(first), rng.randint(0, n - first + (rng.random() < 0.05))]
    elif c.name == "select":
        d = axis(rng, dims)
        n = shape[d] if dims and -dims <= d < dims else 1
        a = [d, Index(rng.randint(-n, max(0, n - 1)))]
    elif c.name == "split":
        d = rng.randrange(max(1, dims))
        n = shape[d] if dims else 1
        first = rng.randint(0, n)
        a = [rng.choice([1, 2, 3, [first, n - first], [n]]), Axis(d)]
    elif c.name == "chunk":
        a = [rng.randint(1, 4), axis(rng, dims)]
    elif c.name == "unbind":
        a = [axis(rng, dims)]
    elif c.name == "unfold":
        d = axis(rng, dims)
        n = shape[d] if dims and -dims <= d < dims else 1
        a = [d, rng.randint(0 if rng.random() < 0.1 else 1, n + (rng.random() < 0.05)) if n else 1, rng.randint(1, 3)]
    elif c.name == "diagonal":
        a = [rng.randint(-3, 3)] + [axis(rng, dims), axis(rng, dims)]
    c.args = [x] + a
    return c


def copies(rng):
    c = Call(rng)
    c.elementwise = True
    shape, dtype = shape_of(rng, 0, 4), rng.choice(ANY)
    dims = len(shape)
    c.name = rng.choice(["flip", "roll", "tile", "cat", "stack", "repeat_interleave", "sort", "argsort", "topk", "kthvalue", "unique", "to",
                         "pad", "equal", "allclose"])
    if c.name in ("cat", "stack"):
        c.kind, shape = "torch", shape_of(rng, 1, 4, 0.15)
        d = rng.randrange(len(shape))
        parts = []
        for _ in range(rng.randint(1, 4)):
            s = list(shape)
            if c.name == "cat":
                s[d] = rng.choice([0, 1, 2, 3])
            if rng.random() < 0.02:
                s[-1] += 1
            parts.append(c.tensor(s, dtype if rng.random() < 0.8 else rng.choice(ANY)))
        c.args = [parts] + ([Axis(d - len(shape) if c.name == "cat" and rng.random() < 0.3 else d)] if rng.random() < 0.8 else [])
        return c
    if c.name == "to":
        c.args = [c.tensor(shape, dtype, special=0.0, spread=3), rng.choice(ANY)]
        return c
    if c.name == "pad":
        c.kind = "functional"
        mode = rng.choice(["constant", "constant", "reflect", "replicate", "circular"])
        k = rng.randint(1, max(1, dims)) if mode == "constant" else rng.choice([1, 2, 3])
        if mode != "constant":
            shape = [2, 3] + [rng.choice([2, 3, 4, 5]) for _ in range(k)]
            dtype = rng.choice(REAL)
        c.args = [c.tensor(shape, dtype), [rng.choice([0, 1, 2, 1, *([-1, 4] if mode == "constant" else [])]) for _ in range(2 * k)]]
        c.options = {"mode": mode}
        if mode == "constant" and rng.random() < 0.5:
            c.options["value"] = rng.choice([0, 1, -2.5] if dtype.is_floating_point else [0, 1])
        return c
    if c.name in ("equal", "allclose"):
        x = c.tensor(shape, dtype, special=0.2)
        same = rng.random() < 0.5
        c.args = [x, x if same else c.tensor(shape if rng.random() < 0.7 else broadcast_of(rng, shape), dtype)]
        if c.name == "allclose" and rng.random() < 0.5:
            c.options["equal_nan"] = True
        return c
    if c.name in ("sort", "argsort", "topk", "kthvalue"):
        x = c.tensor(shape, dtype, distinct=True) if dtype in (F32, F64) else c.tensor(shape, dtype)
        d = axis(rng, dims)
        n = shape[d] if dims and -dims <= d < dims else 1
        c.args, c.index_results = [x], (0,) if c.name == "argsort" else (1,)
        # where elements are equal only the stable order is defined
        if dtype not in (F32, F64):
            c.name, c.index_results = "sort", (1,)
        if c.name in ("sort", "argsort"):
            c.options, c.by_position = {"dim": d, "stable": True}, ("dim",)
            if rng.random() < 0.4:
                c.options["descending"] = True
        elif c.name == "topk":
            c.args += [rng.randint(1 if not dims else 0, n + (rng.random() < 0.05)), d]
            if rng.random() < 0.4:
                c.options["largest"] = False
        else:
            c.args += [rng.randint(1, max(1, n)), d]
            if rng.random() < 0.4:
                c.options["keepdim"] = True
        return c
    if c.name == "unique":
        c.args = [c.tensor(shape, rng.choice([I64, I32, U8, F32]), grad=False)]
        if rng.random() < 0.5:
            c.options = {"return_inverse": True, "return_counts": True}
            c.index_results = (1,)
        return c
    c.args = [c.tensor(shape, dtype)]
    if c.name == "flip":
        c.args.append(axes(rng, dims))
    elif c.name == "roll":
        if rng.random() < 0.3:
            c.args.append(rng.randint(-5, 5))
        elif rng.random() < 0.5 or dims < 2:
            c.args += [rng.randint(-9, 9), axis(rng, dims)]
        else:
            c.args += [[1, -2], [Axis(d) for d in rng.sample(range(dims), 2)]]
    elif c.name == "tile":
        c.args += [rng.choice([0, 1, 2, 3, 2]) for _ in range(rng.randint(1, dims + 1))]
    else:
        c.args += [rng.randint(0, 3)] + ([axis(rng, dims)] if rng.random() < 0.7 else [])
    return c


def indexing(rng):
    c = Call(rng)
    c.elementwise = True
    c.name = rng.choice(["gather", "scatter", "scatter_add", "index_select", "index_add", "index_copy", "index_fill", "take_along_dim",
                         "scatter_", "scatter_add_", "index_add_", "index_fill_", "index_copy_"])
    c.in_place = c.name.endswith("_")
    dtype = rng.choice([F32, F32, F64, BF16, I64, I32, U8, BOOL])
    shape = shape_of(rng, 1, 3)
    dims = len(shape)
    d = rng.randrange(dims)
    n = shape[d]
    x, a = c.tensor(shape, dtype), Axis(d - dims if rng.random() < 0.3 else d)
    base = c.name.rstrip("_")
    if base in ("gather", "take_along_dim", "scatter", "scatter_add"):
        ishape = [rng.randint(0 if rng.random() < 0.1 else 1, s) if s else 0 for s in shape]
        if base == "gather":
            ishape[d] = rng.choice([0, 1, 3, 6])
        if base == "take_along_dim":
            ishape = [s if rng.random() < 0.7 else 1 for s in shape]
            ishape[d] = rng.choice([1, 3])
        if base == "scatter" and n:
            # one position for each element: which of several writers stays is not defined there
            index = torch.rand([*shape]).argsort(d)
            for k, s in enumerate(ishape):
                index = index.narrow(k, 0, s)
            c.tensors.append(Spec(index.contiguous(), [], False, True))
            i = T(len(c.tensors) - 1)
        else:
            i = c.index(ishape, n)
        if base == "gather":
            c.args = [x, a, i]
        elif base == "take_along_dim":
            c.args = [x, i, a]
        else:
            src = c.tensor(ishape, dtype) if base == "scatter_add" or rng.random() < 0.7 else rng.choice([0, 1, 2])
            c.args = [x, a, i, src]
    else:
        k = rng.choice([0, 1, 2, 3]) if n else 0
        if base == "index_copy":
            k = min(k, n)
            c.tensors.append(Spec(torch.randperm(max(n, 1))[:k], [], False, True))
            i = T(len(c.tensors) - 1)
        else:
            i = c.index([k], n, rng.choice([I64, I32]), wrong=0.02) if base != "index_fill" else c.index([k], n, wrong=0)
        if base == "index_select":
            c.args = [x, a, i]
        elif base == "index_fill":
            c.args = [x, a, i, rng.choice([0, 2, 1])]
        else:
            s = list(shape)
            s[d] = k
            c.args = [x, a, i, c.tensor(s, dtype)]
            if base == "index_add" and rng.random() < 0.3:
                c.options["alpha"] = 2
    return c


def products(rng):
    c = Call(rng)
    c.name = rng.choice(["matmul", "matmul", "mm", "bmm", "mv", "dot", "outer", "addmm"])
    dtype = rng.choice([F32, F32, F64, BF16, I64])
    m, k, n, b = (rng.choice([1, 2, 3, 5, 8, 17, 0 if rng.random() < 0.2 else 4]) for _ in range(4))
    second = dtype if rng.random() < 0.95 else rng.choice(ANY)
    if c.name == "matmul":
        lead = shape_of(rng, 0, 2)
        a = [k] if rng.random() < 0.2 else lead + [m, k]
        o = [k] if rng.random() < 0.2 else broadcast_of(rng, lead) + [k + (rng.random() < 0.03), n]
        c.args = [c.tensor(a, dtype), c.tensor(o, second)]
    elif c.name == "mm":
        c.args = [c.tensor([m, k], dtype), c.tensor([k, n], second)]
    elif c.name == "bmm":
        c.args = [c.tensor([b, m, k], dtype), c.tensor([b, k, n], second)]
    elif c.name == "mv":
        c.args = [c.tensor([m, k], dtype), c.tensor([k], second)]
    elif c.name == "dot":
        c.args = [c.tensor([k], dtype), c.tensor([k], second)]
    elif c.name == "outer":
        c.args = [c.tensor([m], dtype), c.tensor([k], second)]
    else:
        c.args = [c.tensor(broadcast_of(rng, [m, n])[-2:], dtype), c.tensor([m, k], dtype), c.tensor([k, n], second)]
        if rng.random() < 0.5:
            c.options = {"beta": rng.choice([0, 1, 0.5]), "alpha": rng.choice([1, 2, -0.5])}
            if not dtype.is_floating_point:
                c.options = {}
    return c


def creation(rng):
    c = Call(rng)
    c.kind, c.elementwise = "torch", True
    c.name = rng.choice(["zeros", "ones", "full", "eye", "linspace", "zeros_like", "ones_like", "full_like"])
    shape = shape_of(rng)
    if c.name in ("zeros", "ones"):
        c.args = [shape]
    elif c.name == "full":
        c.args = [shape, rng.choice([1.5, 0.5, True, float("inf")])]
    elif c.name == "eye":
        c.args = [rng.randint(0, 4)] + ([rng.randint(0, 4)] if rng.random() < 0.5 else [])
    elif c.name == "linspace":
        c.args = [rng.choice([0, 1, 2.5]), rng.choice([1, 3, 7]), rng.randint(0, 6)]
    else:
        c.args = [c.tensor(shape, rng.choice(ANY))] + ([rng.choice([0, 1, 2])] if c.name == "full_like" else [])
    if rng.random() < 0.5:
        c.options["dtype"] = rng.choice([F32, F64] if c.name == "linspace" else [F32, F64, I64, I32, U8, BOOL, BF16])
    return c


def activation(rng):
    c = Call(rng)
    c.kind, c.elementwise = "functional", True
    c.name = rng.choice(["relu", "leaky_relu", "elu", "silu", "gelu", "softplus", "sigmoid", "tanh", "softmax", "log_softmax", "relu_",
                         "leaky_relu_", "elu_"])
    c.in_place = c.name.endswith("_")
    shape = shape_of(rng)
    c.args = [c.tensor(shape, rng.choice(REAL + [I64]), special=0.3, spread=rng.choice([1, 1, 8, 50]))]
    base = c.name.rstrip("_")
    if base in ("softmax", "log_softmax"):
        c.args.append(axis(rng, len(shape)))
        c.elementwise = False
    elif base == "leaky_relu" and rng.random() < 0.5:
        c.args.append(rng.choice([0.2, 0, 1.5, -0.5]))
    elif base == "elu" and rng.random() < 0.5:
        c.args.append(rng.choice([0.5, 2, -1]))
    elif c.name == "gelu" and rng.random() < 0.5:
        c.options["approximate"] = "tanh"
    elif c.name == "softplus" and rng.random() < 0.5:
        c.args += [rng.choice([0.5, 2, 3]), rng.choice([20, 1])]
    return c


def loss(rng):
    c = Call(rng)
    c.kind = "functional"
    c.name = rng.choice(["mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div",
                         "cross_entropy", "nll_loss", "cross_entropy"])
    dtype, grad = rng.choice(REAL), rng.random() < 0.5
    c.options["reduction"] = rng.choice(["mean", "sum", "none"])
    if c.name in ("cross_entropy", "nll_loss"):
        classes = rng.choice([1, 2, 3, 7])
        n, rest = rng.choice([1, 2, 5, 0 if rng.random() < 0.2 else 3]), rng.choice([[], [], [3], [2, 3]])
        shape = [classes] if rng.random() < 0.15 else [n, classes] + rest
        x = c.tensor(shape, dtype, special=0.05)
        labels = [] if len(shape) == 1 else [n] + rest
        if c.name == "cross_entropy" and rng.random() < 0.25:
            target = c.tensor(shape, dtype, positive=True, grad=grad)
        else:
            target = c.index(labels, classes)
            if rng.random() < 0.3:
                c.options["ignore_index"] = Index(rng.randrange(classes))
        c.args = [x, target]
        if rng.random() < 0.4:
            c.options["weight"] = c.tensor([classes], dtype, positive=True, grad=False)
        if c.name == "cross_entropy" and rng.random() < 0.4:
            c.options["label_smoothing"] = rng.choice([0.1, 1.0])
        return c
    shape = shape_of(rng)
    x = c.tensor(shape, dtype, special=0.1)
    positive = c.name in ("kl_div",) or c.name.startswith("binary")
    c.args = [x, c.tensor(shape, dtype, positive=positive, grad=grad)]
    if c.name == "smooth_l1_loss" and rng.random() < 0.5:
        c.options["beta"] = rng.choice([0.5, 2, 0])
    if c.name == "huber_loss" and rng.random() < 0.5:
        c.options["delta"] = rng.choice([0.5, 2])
    if c.name.startswith("binary") and shape and rng.random() < 0.4:
        c.options["pos_weight"] = c.tensor(shape[-1:], dtype, positive=True, grad=False)
    if c.name == "kl_div":
        c.options["log_target"] = rng.random() < 0.5
        if rng.random() < 0.3:
            c.options["reduction"] = "batchmean"
    return c


def image(rng, dims, channels, least=1):
    n = rng.choice([1, 2, 3, 0 if rng.random() < 0.15 else 2])
    return [n, channels] + [rng.randint(least, (12, 8, 5)[dims - 1]) for _ in range(dims)]


def several(rng, dims, low, high):
    """A number for all axes or one for each."""
    return rng.randint(low, high) if rng.random() < 0.5 else [rng.randint(low, high) for _ in range(dims)]


def convolution(rng):
    c = Call(rng)
    c.kind = "functional"
    dims, groups, dtype = rng.choice([1, 2, 2, 3]), rng.choice([1, 1, 2, 3]), rng.choice([F32, F32, F64, BF16])
    i, o = groups * rng.choice([1, 2, 5]), groups * rng.choice([1, 2, 5])
    k = [rng.randint(1, 4) for _ in range(dims)]
    transposed = rng.random() < 0.4
    c.name = f"conv{'_transpose' if transposed else ''}{dims}d"
    c.args = [c.tensor(image(rng, dims, i), dtype),
              c.tensor([i, o // groups] + k if transposed else [o, i // groups] + k, dtype)]
    if rng.random() < 0.6:
        c.args.append(c.tensor([o], dtype))
    if groups > 1:
        c.options["groups"] = groups
    for name, low, high in ("stride", 1, 3), ("dilation", 1, 2), ("padding", 0, 3):
        if rng.random() < 0.5:
            c.options[name] = several(rng, dims, low, high)
    if transposed and rng.random() < 0.3:
        c.options["output_padding"] = several(rng, dims, 0, 1)
    elif not transposed and rng.random() < 0.15:
        c.options["padding"] = rng.choice(["same", "valid"])
    return c


def pooling(rng):
    c = Call(rng)
    c.kind = "functional"
    dims, dtype = rng.choice([1, 2, 2, 3]), rng.choice([F32, F32, F64, BF16])
    c.name = rng.choice(["max_pool", "avg_pool", "adaptive_max_pool", "adaptive_avg_pool"]) + f"{dims}d"
    special = 0.1 if "max" in c.name else 0
    c.args = [c.tensor(image(rng, dims, rng.choice([1, 3])), dtype, special=special)]
    if c.name.startswith("adaptive"):
        c.args.append(several(rng, dims, 1, 5))
        if "max" in c.name and rng.random() < 0.3:
            c.options["return_indices"] = True
            c.index_results = (1,)
        return c
    c.args.append(several(rng, dims, 1, 4))
    if rng.random() < 0.6:
        c.options["stride"] = several(rng, dims, 1, 4)
    if rng.random() < 0.4:
        c.options["padding"] = several(rng, dims, 0, 2)
    if rng.random() < 0.4:
        c.options["ceil_mode"] = True
    if c.name.startswith("avg") and rng.random() < 0.4:
        c.options["count_include_pad"] = rng.random() < 0.3
    if c.name.startswith("max"):
        if rng.random() < 0.3:
            c.options["dilation"] = several(rng, dims, 1, 2)
        if rng.random() < 0.3:
            c.options["return_indices"] = True
            c.index_results = (1,)
    return c


def resampling(rng):
    c = Call(rng)
    c.kind = "functional"
    dims, dtype = rng.choice([1, 2, 2, 3]), rng.choice([F32, F32, F64, BF16])
    c.name = rng.choice(["interpolate", "interpolate", "pixel_shuffle", "pixel_unshuffle"])
    if c.name == "interpolate":
        c.args = [c.tensor(image(rng, dims, rng.choice([1, 3])), dtype)]
        if rng.random() < 0.5:
            c.options["size"] = several(rng, dims, 1, 9)
        else:
            c.options["scale_factor"] = rng.choice([2, 3, 0.5, 1.5, 0.7, 2.3, 1])
        mode = rng.choice(["nearest", ("linear", "bilinear", "trilinear")[dims - 1]])
        # In two axes PyTorch's nearest takes the ratio of the sizes for the factor, in one axis the factor.
        if mode == "nearest" and "scale_factor" in c.options:
            c.options["scale_factor"] = rng.choice([1, 2, 3, 4])
        if mode != "nearest" or rng.random() < 0.5:
            c.options["mode"] = mode
        if mode != "nearest" and rng.random() < 0.5:
            c.options["align_corners"] = rng.random() < 0.7
    else:
        r = rng.choice([1, 2, 3])
        if c.name == "pixel_shuffle":
            c.args = [c.tensor([rng.choice([1, 2]), 2 * r * r + (rng.random() < 0.05), 2, 3], dtype), r]
        else:
            c.args = [c.tensor([rng.choice([1, 2]), 2, 2 * r, r * 3 + (rng.random() < 0.05)], dtype), r]
    return c


def normalisation(rng):
    c = Call(rng)
    c.kind = "functional"
    c.name = rng.choice(["layer_norm", "group_norm", "batch_norm", "instance_norm", "rms_norm"])
    dtype, dims = rng.choice([F32, F32, F64, BF16]), rng.choice([0, 1, 2, 3])
    shape = [rng.choice([1, 2, 3]), 6] + [rng.randint(1, 4) for _ in range(dims)]
    # PyTorch's gradient of batch norm in evaluation is wrong for some strides of images that are one pixel wide.
    x = c.tensor(shape, dtype, spread=rng.choice([1, 10]), plain=c.name == "batch_norm" and shape[-1] == 1)
    c.args = [x]
    eps = rng.choice([1e-5, 1e-3, 0.1])
    affine, width = rng.random() < 0.6, [6]
    if c.name in ("layer_norm", "rms_norm"):
        width = shape[-rng.randint(1, len(shape)):]
        c.args.append(width)
    elif c.name == "group_norm":
        c.args.append(rng.choice([1, 2, 3, 6, 4]))
    elif c.name == "batch_norm":
        if rng.random() < 0.5:
            c.args += [c.tensor([6], dtype, grad=False, plain=True), c.tensor([6], dtype, positive=True, grad=False, plain=True)]
        else:
            c.args += [None, None]
    if affine:
        c.options["weight"] = c.tensor(width, dtype)
        if c.name != "rms_norm":
            c.options["bias"] = c.tensor(width, dtype)
    if rng.random() < 0.7:
        c.options["eps"] = eps
    if c.name == "batch_norm":
        c.options["training"] = rng.random() < 0.6
        if rng.random() < 0.4:
            c.options["momentum"] = 0.3
    return c


def other(rng):
    c = Call(rng)
    c.kind = "functional"
    c.name = rng.choice(["linear", "embedding", "one_hot"])
    dtype = rng.choice([F32, F32, F64, BF16])
    if c.name == "linear":
        i, o = rng.choice([1, 3, 16, 17, 0]), rng.choice([1, 5, 9, 0 if rng.random() < 0.1 else 2])
        c.args = [c.tensor(shape_of(rng, 0, 3) + [i], dtype), c.tensor([o, i] if rng.random() < 0.95 else [i], dtype)]
        if rng.random() < 0.6:
            c.args.append(c.tensor([o], dtype))
    elif c.name == "embedding":
        rows = rng.choice([1, 4, 9])
        c.args = [c.index(shape_of(rng, 0, 3), rows, rng.choice([I64, I32])), c.tensor([rows, rng.choice([1, 3, 8])], dtype)]
        if rng.random() < 0.3:
            c.options["padding_idx"] = Index(rng.randint(-rows, rows - 1))
    else:
        c.args = [c.index(shape_of(rng, 0, 3), 4, wrong=0)] + ([5] if rng.random() < 0.7 else [])
    return c


def modules(rng):
    c = Call(rng)
    c.kind, c.dtype, c.train = "module", rng.choice([F32, F32, F64, BF16]), rng.random() < 0.6
    dims = rng.choice([1, 2, 2, 3])
    d = f"{dims}d"
    c.name = rng.choice(["Conv" + d, "ConvTranspose" + d, "BatchNorm" + d, "InstanceNorm" + d, "GroupNorm", "LayerNorm", "RMSNorm", "Linear",
                         "Embedding", "MaxPool" + d, "AvgPool" + d, "AdaptiveAvgPool" + d, "AdaptiveMaxPool" + d, "ReLU", "LeakyReLU", "ELU",
                         "GELU", "SiLU", "Softplus", "Softmax", "LogSoftmax", "PixelShuffle", "PixelUnshuffle", "Upsample", "MSELoss", "L1Loss",
                         "SmoothL1Loss", "HuberLoss", "KLDivLoss", "BCEWithLogitsLoss", "CrossEntropyLoss", "NLLLoss", "Identity", "Dropout"])
    shape = image(rng, dims, 6)
    chance = rng.random
    name = c.name
    if name.startswith("Conv"):
        groups = rng.choice([1, 1, 2])
        c.args = [6, groups * rng.choice([1, 3]), several(rng, dims, 1, 3)]
        for key, low, high in ("stride", 1, 3), ("dilation", 1, 2), ("padding", 0, 2):
            if chance() < 0.4:
                c.options[key] = several(rng, dims, low, high)
        if groups > 1:
            c.options["groups"] = groups
        if chance() < 0.3:
            c.options["bias"] = False
        if "Transpose" not in name and chance() < 0.4:
            c.options["padding_mode"] = rng.choice(["zeros", "reflect", "replicate", "circular"])
    elif name.startswith(("BatchNorm", "InstanceNorm")):
        c.args = [6]
        for key in "affine", "track_running_stats":
            if chance() < 0.4:
                c.options[key] = chance() < 0.5
        if chance() < 0.3:
            c.options["momentum"] = rng.choice([0.3, None]) if name.startswith("Batch") else 0.3
        if name == "BatchNorm1d" and chance() < 0.3:
            shape = shape[:2]
    elif name == "GroupNorm":
        c.args = [rng.choice([1, 2, 3, 6]), 6]
        c.options = {"affine": chance() < 0.7}
    elif name in ("LayerNorm", "RMSNorm"):
        c.args = [shape[-rng.randint(1, 2):]]
        c.options = {"elementwise_affine": chance() < 0.7}
        if name == "LayerNorm" and chance() < 0.3:
            c.options["bias"] = False
    elif name == "Linear":
        c.args, c.options = [shape[-1], rng.choice([1, 4])], {"bias": chance() < 0.6}
    elif name == "Embedding":
        c.args, c.options = [5, 3], {"padding_idx": Index(1)} if chance() < 0.4 else {}
        c.index(shape_of(rng, 0, 2), 5)
    elif name.startswith(("MaxPool", "AvgPool")):
        c.args = [several(rng, dims, 1, 3)]
        if chance() < 0.5:
            c.options["stride"] = several(rng, dims, 1, 3)
        if chance() < 0.3:
            c.options["padding"] = 1
        if chance() < 0.3:
            c.options["ceil_mode"] = True
    elif name.startswith("Adaptive"):
        c.args = [several(rng, dims, 1, 4)]
    elif name in ("LeakyReLU", "ELU"):
        c.args = [0.3] if chance() < 0.5 else []
    elif name in ("Softmax", "LogSoftmax"):
        c.args = [axis(rng, len(shape))]
    elif name == "GELU":
        c.options = {"approximate": "tanh"} if chance() < 0.5 else {}
    elif name == "Softplus":
        c.args = [2, 3] if chance() < 0.5 else []
    elif name == "PixelShuffle":
        c.args, shape = [2], [2, 8, 3, 2]
    elif name == "PixelUnshuffle":
        c.args, shape = [2], [2, 3, 4, 6]
    elif name == "Upsample":
        c.options = {"scale_factor": rng.choice([2, 1.5])} if chance() < 0.5 else {"size": several(rng, dims, 1, 6)}
        if chance() < 0.5:
            c.options["mode"] = ("linear", "bilinear", "trilinear")[dims - 1]
    elif name == "Dropout":
        c.args, c.train = [rng.choice([0.5, 0.0])], False
    elif name in ("CrossEntropyLoss", "NLLLoss"):
        c.tensor([4, 6], c.dtype)
        c.index([4], 6, wrong=0)
        c.options = {"reduction": rng.choice(["mean", "sum", "none"])}
    elif name.endswith("Loss"):
        c.tensor(shape, c.dtype)
        c.tensor(shape, c.dtype, positive=True, grad=False)
        c.options = {"reduction": rng.choice(["mean", "sum", "none"])}
    if not c.tensors:
        c.tensor(shape, c.dtype, plain=name.startswith("BatchNorm"))
    c.state = {}
    try:
        net = getattr(torch.nn, name)(*c.args, **c.options).to(c.dtype)
        c.state = {k: v.clone() for k, v in net.state_dict().items()}
        for key, v in c.state.items():
            if key.endswith("running_var"):
                v += torch.rand_like(v)
            elif key.endswith("running_mean") or key == "bias":
                v += torch.randn_like(v)
    except (RuntimeError, ValueError, TypeError):
        pass
    return c


def entries(c, shape):
    """What stands between brackets: positions, ranges, a list of positions or a mask."""
    rng, key, listed = c.rng, [], False
    if shape and rng.random() < 0.15:
        return [c.tensor(shape[:rng.randint(1, len(shape))], BOOL)]
    for n in shape[:rng.randint(1, len(shape))] if shape else []:
        kind = rng.choice(["position", "range", "range", "all", "list", "mask"])
        if kind == "position" and n:
            key.append(Index(rng.randint(-n, n - 1 + (rng.random() < 0.02))))
        elif kind == "list" and not listed:
            key.append(c.index([rng.randint(1, 3) if n else 0], n, rng.choice([I64, I32]), wrong=0))
            listed = True
        elif kind == "mask" and not listed:
            key.append(c.tensor([n], BOOL))
            listed = True
        elif kind == "range":
            first = rng.randint(0, n)
            key.append(Range(first, rng.randint(first, n), rng.choice([1, 1, 2, 3])))
        else:
            key.append(Range(0, None))
    return key


def brackets(rng):
    c = Call(rng)
    c.elementwise = True
    c.in_place = rng.random() < 0.5
    c.kind = c.name = "setitem" if c.in_place else "getitem"
    shape, dtype = shape_of(rng, 1, 4), rng.choice(ANY)
    c.args = [c.tensor(shape, dtype)]
    key = entries(c, shape)
    c.args.append(key)
    if c.in_place:
        base = torch.zeros(shape)
        place = list(base[tuple(slice(k.first, k.last, k.step) if isinstance(k, Range) else
                                c.tensors[k.i].base.long().reshape(-1).clamp(max=0) if isinstance(k, T) and c.tensors[k.i].index else
                                0 if isinstance(k, Index) else slice(None) for k in key)].shape)
        masked = any(isinstance(k, T) and not c.tensors[k.i].index for k in key)
        if masked or rng.random() < 0.4:
            c.args.append(rng.choice([0, 1, 2]))
        else:
            c.args.append(c.tensor(broadcast_of(rng, place)[-len(place):] if place else [], dtype))
        # Which of several values stays is not defined there.
        for s in c.tensors[1:]:
            if s.index:
                s.base = torch.unique(s.base).to(s.base.dtype)[:1]
    return c


SCHEDULES = {
    "StepLR": lambda rng: ([rng.randint(1, 3)], {"gamma": 0.5}),
    "MultiStepLR": lambda rng: ([[1, 3]], {"gamma": 0.3}),
    "ExponentialLR": lambda rng: ([0.8], {}),
    "CosineAnnealingLR": lambda rng: ([rng.randint(2, 6)], {"eta_min": rng.choice([0, 1e-4])}),
    "CosineAnnealingWarmRestarts": lambda rng: ([rng.randint(1, 3)], {"T_mult": rng.choice([1, 2])}),
    "OneCycleLR": lambda rng: ([0.1], {"total_steps": 12, "cycle_momentum": False, "anneal_strategy": rng.choice(["cos", "linear"]),
                                       "three_phase": rng.random() < 0.3, "pct_start": rng.choice([0.3, 0.5])}),
    "ReduceLROnPlateau": lambda rng: ([], {"patience": rng.choice([0, 1]), "factor": 0.5, "threshold": rng.choice([1e-4, 0.2]),
                                           "mode": rng.choice(["min", "max"]), "threshold_mode": rng.choice(["rel", "abs"]),
                                           "cooldown": rng.choice([0, 1])}),
}


def optimisers(rng):
    """A few steps with gradients that are given; the parameters and the learning rates come out."""
    c = Call(rng)
    c.kind, c.name, dtype = "optim", rng.choice(["SGD", "Adam", "AdamW", "RMSprop"]), rng.choice([F32, F32, F64])
    c.steps = rng.randint(1, 6)
    shapes = [shape_of(rng, 0, 3) for _ in range(rng.randint(1, 3))]
    c.parameters = len(shapes)
    for s in shapes:
        c.tensor(s, dtype, grad=True, plain=True)
    for _ in range(c.steps):
        for s in shapes:
            c.tensor(s, dtype, grad=False, plain=True, spread=rng.choice([1, 10, 0.01]))
    chance = rng.random
    c.options = {"lr": rng.choice([0.1, 0.01])}
    if chance() < 0.5:
        c.options["weight_decay"] = rng.choice([0.1, 0.5, 0])
    if chance() < 0.3:
        c.options["maximize"] = True
    if c.name == "SGD":
        if chance() < 0.6:
            c.options["momentum"] = 0.9
            c.options |= rng.choice([{}, {"nesterov": True}, {"dampening": 0.3}])
    elif c.name == "RMSprop":
        c.options |= rng.choice([{}, {"momentum": 0.5}, {"alpha": 0.9}, {"centered": True}, {"eps": 1e-3}])
    else:
        c.options |= rng.choice([{}, {"betas": [0.8, 0.9]}, {"amsgrad": True}, {"eps": 1e-3}])
    c.schedule = rng.choice([None, *SCHEDULES])
    c.schedule_args = SCHEDULES[c.schedule](rng) if c.schedule else ([], {})
    c.metrics = [rng.choice([1.0, 0.9, 0.85, 2.0]) for _ in range(c.steps)]
    c.clip = rng.choice([None, None, 0.5, 1000.0])
    c.norm_type = rng.choice([2.0, 1.0, float("inf")])
    return c


FAMILIES = [brackets, optimisers, unary, binary, binary, choices, reduction, reduction, views, copies, indexing, products, creation, activation, loss, convolution,
            pooling, resampling, normalisation, other, modules, modules]
