"""The networks whose weights are exchanged (weights.py, weights.lua): layers by class name, positional arguments, options.

Every entry: name, layers, shape of x, masked (masked_torch's classes take (x, mask); a mask of all channels).
"""


def masked_layers():
    for dims, shape in (1, [2, 4, 9]), (2, [2, 4, 8, 6]), (3, [1, 4, 4, 6, 4]):
        d = f"{dims}d"
        yield f"MaskedConv{d}", [[f"MaskedConv{d}", 4, 6, 3, {"padding": 1}]], shape
        yield f"MaskedConv{d}, groups", [[f"MaskedConv{d}", 4, 6, 3, {"padding": 1, "groups": 2, "stride": 2, "bias": False}]], shape
        yield f"PartialConv{d}", [[f"PartialConv{d}", 4, 6, 3, {"padding": 1, "multichannel": True}]], shape
        yield f"PartialConv{d}, groups", [[f"PartialConv{d}", 4, 6, 3, {"groups": 2, "multichannel": True, "dilation": 2, "padding": 2}]], shape
        yield f"MaskedBatchNorm{d}", [[f"MaskedBatchNorm{d}", 4]], shape
        yield f"MaskedBatchNorm{d}, not affine", [[f"MaskedBatchNorm{d}", 4, {"affine": False}]], shape
        yield f"network of {d}", [["ApplyMask"], [f"MaskedConv{d}", 4, 6, 3, {"padding": 1}], [f"MaskedBatchNorm{d}", 6],
                                  ["Masked", ["LeakyReLU", 0.2]], [f"PartialConv{d}", 6, 5, 3, {"padding": 1, "multichannel": True}],
                                  ["MaskedSpatialMean"]], shape
    for kind in "MaskedConv2d", "PartialConv2d":
        for activation in False, True:
            layers, inputs = [], 3
            for i in range(6):
                options = {"padding": 1, "bias": activation}
                if kind == "PartialConv2d":
                    options["multichannel"] = True
                layers += [["MaskedUnshuffle2d", 2], [kind, 4 * inputs, 4 * 2**i, 3, options]]
                layers += [["Masked", ["ReLU"]]] if activation else []
                inputs = 4 * 2**i
            yield f"figure: {kind}{' with ReLU' if activation else ''}", layers, [1, 3, 64, 64]


def plain_layers():
    for dims, shape in (1, [2, 4, 9]), (2, [2, 4, 8, 6]), (3, [1, 4, 4, 6, 4]):
        d = f"{dims}d"
        yield f"Conv{d}", [[f"Conv{d}", 4, 6, 3, {"padding": 1, "groups": 2}]], shape
        yield f"ConvTranspose{d}", [[f"ConvTranspose{d}", 4, 6, 3, {"stride": 2, "output_padding": 1, "padding": 1}]], shape
        yield f"BatchNorm{d}", [[f"BatchNorm{d}", 4]], shape
        yield f"InstanceNorm{d}", [[f"InstanceNorm{d}", 4, {"affine": True, "track_running_stats": True}]], shape
    yield "GroupNorm", [["GroupNorm", 2, 4]], [2, 4, 8, 6]
    yield "LayerNorm", [["LayerNorm", [4, 6]]], [2, 3, 4, 6]
    yield "RMSNorm", [["RMSNorm", 6]], [2, 3, 6]
    yield "Linear", [["Linear", 6, 5], ["GELU"], ["Linear", 5, 3, {"bias": False}]], [7, 6]
    layers, inputs = [], 3
    for i in range(6):
        layers += [["PixelUnshuffle", 2], ["Conv2d", 4 * inputs, 4 * 2**i, 3, {"padding": 1}], ["ReLU"]]
        inputs = 4 * 2**i
    yield "figure: Conv2d", layers, [1, 3, 64, 64]


NETWORKS = [{"name": n, "layers": a, "shape": s, "masked": True} for n, a, s in masked_layers()]
NETWORKS += [{"name": n, "layers": a, "shape": s, "masked": False} for n, a, s in plain_layers()]
LANGUAGE_MODEL = {"name": "language model", "depth": 4, "scale": 16, "base": 2, "vocabulary": 29, "width": 24, "context": 64}
