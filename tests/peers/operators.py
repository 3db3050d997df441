"""The family ops: one plain operator with random options per case. Labels, indices and dims count from 0, as in PyTorch."""
import torch


def op(pick, chance, randn, rng):
    """-> operator's name, options, inputs by name, function(F, inputs, options) -> result."""
    def integer(low, high):
        return rng.randint(low, high)

    def spatial(dims):
        return [integer(1, (15, 8, 5)[dims - 1]) for _ in range(dims)]

    def conv():
        dims, groups = pick(1, 2, 3), pick(1, 1, 2)
        cin, cout = groups * pick(1, 2, 3), groups * pick(1, 2, 4)
        k = [integer(1, 4) for _ in range(dims)]
        args = {"stride": [integer(1, 4) for _ in range(dims)], "padding": [integer(0, n + 1) for n in k],
                "dilation": [integer(1, 3) for _ in range(dims)], "groups": groups}
        size = [max(s, d * (n - 1) + 1 - 2 * p) for s, d, n, p in zip(spatial(dims), args["dilation"], k, args["padding"])]
        if chance(0.2):
            args |= {"padding": pick("same", "same", "valid"), "stride": 1}
            if args["padding"] == "valid":
                size = [s + d * (n - 1) for s, d, n in zip(size, args["dilation"], k)]
        return f"conv{dims}d", args, dict(x=randn(pick(1, 2), cin, *size), weight=randn(cout, cin // groups, *k)) | bias(cout)

    def bias(n):
        return {"bias": randn(n)} if chance(0.7) else {}

    def conv_transpose():
        dims, groups = pick(1, 2, 3), pick(1, 1, 2)
        cin, cout = groups * pick(1, 2, 3), groups * pick(1, 2, 4)
        k, stride = [integer(1, 4) for _ in range(dims)], [integer(1, 4) for _ in range(dims)]
        dilation = [integer(1, 3) for _ in range(dims)]
        extra = [integer(0, max(s, d) - 1) for s, d in zip(stride, dilation)]
        padding = [integer(0, n) for n in k]
        size = [max(s, -(-2 * p // t) + 1) for s, p, t in zip(spatial(dims), padding, stride)]
        args = {"stride": stride, "padding": padding, "output_padding": extra, "dilation": dilation, "groups": groups}
        return f"conv_transpose{dims}d", args, \
            dict(x=randn(pick(1, 2), cin, *size), weight=randn(cin, cout // groups, *k)) | bias(cout)

    def pool():
        dims, kind = pick(1, 2, 3), pick("avg", "max")
        k = [integer(1, 4) for _ in range(dims)]
        args = {"kernel_size": k, "stride": [integer(1, 5) for _ in range(dims)], "padding": [integer(0, n // 2) for n in k],
                "ceil_mode": chance(0.3)}
        size = [max(s, n) for s, n in zip(spatial(dims), k)]
        if kind == "avg":
            args["count_include_pad"] = chance(0.5)
        elif chance(0.3):
            args["dilation"] = [integer(1, 2) for _ in range(dims)]
            size = [s + n for s, n in zip(size, k)]
        return f"{kind}_pool{dims}d", args, dict(x=randn(pick(1, 2), 3, *size))

    def linear():
        lead, i, o = pick([4], [2, 3], [1, 2, 2]), pick(1, 3, 17), pick(1, 5, 9)
        return "linear", {}, dict(x=randn(*lead, i), weight=randn(o, i)) | bias(o)

    def classes():
        c, shape = pick(2, 3, 7), pick([], [], [4], [2, 3])
        n = pick(1, 4, 6)
        target = torch.randint(0, c, (n, *shape))
        name = pick("cross_entropy", "cross_entropy", "nll_loss")
        args = {"reduction": pick("mean", "sum", "none")}
        if chance(0.4):
            args["ignore_index"] = -100
            target[torch.rand(target.shape) < 0.3] = -100
            target.view(-1)[0] = 0
        if name == "cross_entropy" and chance(0.4):
            args["label_smoothing"] = pick(0.1, 0.5)
        return name, args, dict(x=randn(n, c, *shape) * pick(1, 10), target=target) | \
            ({"class_weight": torch.rand(c) + 0.1} if chance(0.4) else {})

    def elements():
        name = pick("mse_loss", "l1_loss", "smooth_l1_loss", "huber_loss", "binary_cross_entropy_with_logits", "kl_div")
        shape = pick([3, 4], [5], [2, 3, 4])
        args = {"reduction": pick("mean", "sum", "none")}
        target = torch.rand(*shape) if name in ("binary_cross_entropy_with_logits", "kl_div") else randn(*shape)
        if name == "smooth_l1_loss":
            args["beta"] = pick(1.0, 0.3)
        elif name == "huber_loss":
            args["delta"] = pick(1.0, 0.3)
        return name, args, dict(x=randn(*shape) * 2, target=target)

    def softmax():
        shape = pick([5], [3, 7], [2, 3, 4], [2, 3, 2, 5])
        return pick("softmax", "log_softmax"), {"dim": integer(-len(shape), len(shape) - 1)}, dict(x=randn(*shape) * pick(1, 20))

    def activation():
        name = pick("relu", "sigmoid", "tanh", "gelu", "silu", "softplus", "leaky_relu", "elu")
        args = {"leaky_relu": {"negative_slope": pick(0.01, 0.2)}, "elu": {"alpha": pick(1.0, 0.5)},
                "gelu": {"approximate": pick("none", "tanh")},
                "softplus": {"beta": pick(1.0, 0.5, 3.0), "threshold": pick(20.0, 2.0)}}.get(name, {})
        return name, args, dict(x=randn(*pick([3, 17], [41], [2, 3, 4, 5])) * pick(1, 8))

    def norm():
        name = pick("layer_norm", "group_norm", "batch_norm", "instance_norm")
        dims = pick(1, 2, 3)
        x = randn(pick(2, 3), 6, *[integer(2, 5) for _ in range(dims)]) * pick(1, 3) + pick(0, 2)
        args = {"eps": pick(1e-5, 1e-3, 0.1)}
        shape = [6]
        if name == "layer_norm":
            shape = list(x.shape[-integer(1, dims + 1):])
            args["normalized_shape"] = shape
        elif name == "group_norm":
            args["num_groups"] = pick(1, 2, 3, 6)
        elif name == "batch_norm":
            args |= {"training": True, "momentum": 0.1}
        return name, args, dict(x=x) | (dict(weight=randn(*shape), bias=randn(*shape)) if chance(0.7) else {})

    def embedding():
        rows = pick(1, 7)
        args = {"padding_idx": integer(0, rows - 1)} if chance(0.3) else {}
        return "embedding", args, dict(index=torch.randint(0, rows, pick([6], [3, 6], [2, 2, 3])), weight=randn(rows, 4))

    name, args, fields = pick(conv, conv, conv_transpose, conv_transpose, pool, pool, linear, classes, elements, softmax,
                              activation, norm, embedding)()
    return name, args, fields, lambda F, v, a: call(F, name, v, a)


def call(F, name, v, args):
    x, weight, bias = v.get("x"), v.get("weight"), v.get("bias")
    if name.startswith("conv"):
        return getattr(F, name)(x, weight, bias, **args)
    if name == "linear":
        return F.linear(x, weight, bias)
    if name in ("cross_entropy", "nll_loss"):
        return getattr(F, name)(x, v["target"], weight=v.get("class_weight"), **args)
    if name.endswith("_loss") or name in ("binary_cross_entropy_with_logits", "kl_div"):
        return getattr(F, name)(x, v["target"], **args)
    if name == "batch_norm":
        return F.batch_norm(x, None, None, weight, bias, **args)
    if name.endswith("_norm"):
        return getattr(F, name)(x, weight=weight, bias=bias, **args)
    if name == "embedding":
        return F.embedding(v["index"], weight, **args)
    return getattr(F, name)(x, **args) if args or name != "elu" else F.elu(x)
