"""Reads an event file of ours with the real tensorboard package (pip install tensorboard pillow) and compares.

    python3 tests/peers/tensorboard_check.py
"""
import io
import json
import math
import os
import subprocess
import tempfile

from tensorboard.backend.event_processing import event_accumulator

here = os.path.dirname(os.path.abspath(__file__))
with tempfile.TemporaryDirectory() as folder:
    text = subprocess.check_output(["luajit", os.path.join(here, "tensorboard_write.lua"), folder])
    expected = json.loads(text)
    events = event_accumulator.EventAccumulator(
        folder, size_guidance={"scalars": 0, "histograms": 0, "images": 0, "tensors": 0})
    events.Reload()

    scalars = events.Scalars("train/loss")
    assert [e.step for e in scalars] == [1000 * (i + 1) for i in range(300)]
    assert all(math.isclose(e.value, v, rel_tol=1e-6) for e, v in zip(scalars, expected["scalars"]))

    histogram = events.Histograms("weights")[0]
    for name, value in expected["histogram"].items():
        assert math.isclose(getattr(histogram.histogram_value, name), value, rel_tol=1e-9), name
    limits, counts = histogram.histogram_value.bucket_limit, histogram.histogram_value.bucket
    assert sum(counts) == 1000 and len(limits) == len(counts) and list(limits) == sorted(limits)

    image = events.Images("picture")[0]
    assert (image.height, image.width) == (5, 7)
    try:
        from PIL import Image
        pixels = Image.open(io.BytesIO(image.encoded_image_string))
        assert pixels.mode == "RGB" and pixels.size == (7, 5)
        flat = [v for c in range(3) for v in pixels.getchannel(c).getdata()]
        assert flat == expected["image"]["pixels"]
    except ImportError:
        print("pillow is missing: the PNG was not decoded")

    note = events.Tensors("note/text_summary")[0]
    assert note.step == 5 and note.tensor_proto.string_val[0].decode() == expected["text"]
    assert events.SummaryMetadata("note/text_summary").plugin_data.plugin_name == "text"
print("tensorboard reads 300 scalars, a histogram, an image and a text as they were written")
