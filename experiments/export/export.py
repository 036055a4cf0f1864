"""Exported models beside the program's own predictions: python3 experiments/export/export.py OUT

Needs a Python with torch, numpy, safetensors, onnx and onnxruntime, and the program (--program). Trains every kind of
model for one round on small random data, exports it, and prints the largest difference of a logit.
"""

import argparse
import csv
import json
import pathlib
import struct
import subprocess
import sys
import warnings
import zlib

import numpy
import onnx
import onnxruntime
import safetensors
import safetensors.torch
import torch
from torch import nn
from torch.nn.functional import pad

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LIMIT = 1e-4

# Lazy layers say that they are new.
warnings.filterwarnings("ignore", category=UserWarning, module="torch.nn.modules.lazy")

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("out", type=pathlib.Path, help="folder for data, runs and the table")
parser.add_argument("--program", default=str(ROOT / "target/release/seccogc"), help="the program")
arguments = parser.parse_args()


class Fields(nn.Module):
    """A module with these fields, and a function of it and the examples."""

    def __init__(self, forward, **fields):
        super().__init__()
        for name, field in fields.items():
            self.add_module(name, field)
        self.function = forward

    def forward(self, x):
        return self.function(self, x)


def softmax(shape, classes):
    return Fields(lambda m, x: m.output(x.flatten(1)), output=nn.LazyLinear(classes))


def mlp(shape, classes):
    def forward(m, x):
        x = x.flatten(1)
        for layer in m.hidden:
            x = layer(x).relu()
        return m.output(x)

    return Fields(forward, hidden=nn.ModuleList([nn.LazyLinear(20), nn.LazyLinear(11)]), output=nn.LazyLinear(classes))


def cnn(shape, classes):
    def forward(m, x):
        x = m.pool(m.conv1(x)).relu()
        x = m.pool(m.conv2(x)).relu()
        return m.output(m.hidden(x.flatten(1)).relu())

    return Fields(
        forward, conv1=nn.LazyConv2d(32, 5, padding=2), conv2=nn.LazyConv2d(64, 5, padding=2), pool=nn.MaxPool2d(2),
        hidden=nn.LazyLinear(512), output=nn.LazyLinear(classes),
    )


def cifar_cnn(shape, classes):
    def forward(m, x):
        x = m.pool(m.conv1(x)).relu()
        x = m.pool(m.conv2(x)).relu()
        return m.output(m.hidden2(m.hidden1(x.flatten(1)).relu()).relu())

    return Fields(
        forward, conv1=nn.LazyConv2d(64, 5, padding=2), conv2=nn.LazyConv2d(64, 5, padding=2),
        pool=nn.MaxPool2d(3, stride=2, padding=1), hidden1=nn.LazyLinear(384), hidden2=nn.LazyLinear(192),
        output=nn.LazyLinear(classes),
    )


def lenet5(shape, classes):
    def forward(m, x):
        x = m.pool(m.c1(x).tanh())
        x = m.pool(m.c3(x).tanh())
        return m.output(m.f6(m.c5(x.flatten(1)).tanh()).tanh())

    padding = [2 if side < 32 else 0 for side in shape[1:]]
    return Fields(
        forward, c1=nn.LazyConv2d(6, 5, padding=padding), c3=nn.LazyConv2d(16, 5), pool=nn.AvgPool2d(2),
        c5=nn.LazyLinear(120), f6=nn.LazyLinear(84), output=nn.LazyLinear(classes),
    )


def unit(channels, to, side=3, stride=1, groups=None):
    """A convolution and its group normalisation, where it has one."""
    fields = {"conv": nn.Conv2d(channels, to, side, stride=stride, padding=side // 2, bias=groups is None)}
    if groups:
        fields["norm"] = nn.GroupNorm(groups, to)
    return Fields(lambda m, x: m.norm(m.conv(x)) if groups else m.conv(x), **fields)


def resnet(widths, groups, projects):
    def block(channels, to):
        stride = to // channels

        def forward(m, x):
            y = m.second(m.first(x).relu())
            if "projection" in fields:
                return (y + m.projection(x)).relu()
            return (y + pad(x[:, :, ::stride, ::stride], (0, 0, 0, 0, 0, to - channels))).relu()

        fields = {"first": unit(channels, to, 3, stride, groups), "second": unit(to, to, groups=groups)}
        if projects and stride == 2:
            fields["projection"] = unit(channels, to, 1, stride, groups)
        return Fields(forward, **fields)

    def make(shape, classes):
        def forward(m, x):
            x = m.stem(x).relu()
            for each in m.blocks:
                x = each(x)
            return m.output(x.mean((2, 3)))

        blocks = nn.ModuleList([block(a, b) for a, b in zip(widths, widths[1:])])
        stem = unit(shape[0], widths[0], groups=groups)
        return Fields(forward, stem=stem, blocks=blocks, output=nn.LazyLinear(classes))

    return make


def vgg11(shape, classes):
    widths, pooled = [64, 128, 256, 256, 512, 512, 512, 512], [0, 1, 3, 5, 7]

    def forward(m, x):
        for i, each in enumerate(m.units):
            x = each(x).relu()
            if i in pooled:
                x = m.pool(x)
        return m.output(x.mean((2, 3)))

    units = nn.ModuleList([unit(a, b) for a, b in zip([shape[0], *widths], widths)])
    return Fields(forward, units=units, pool=nn.MaxPool2d(2), output=nn.LazyLinear(classes))


def recurrent(name, layer):
    def make(shape, classes):
        def forward(m, x):
            states, _ = m.get_submodule(name)(x.squeeze(2).transpose(1, 2) @ m.embedding.weight)
            return m.output(states[:, -1])

        fields = {"embedding": nn.Embedding(shape[0], 8), name: layer(), "output": nn.LazyLinear(classes)}
        return Fields(forward, **fields)

    return make


MODULES = {
    "softmax": softmax, "mlp": mlp, "cnn": cnn, "lenet5": lenet5, "cifar-cnn": cifar_cnn,
    "resnet20": resnet([16, 16, 16, 16, 32, 32, 32, 64, 64, 64], 4, projects=False),
    "resnet18": resnet([64, 64, 64, 128, 128, 256, 256, 512, 512], 2, projects=True), "vgg11": vgg11,
    "char-lstm": recurrent("lstm", lambda: nn.LSTM(8, 256, 2, batch_first=True)),
    "gru": recurrent("gru", lambda: nn.GRU(8, 128, 1, batch_first=True)),
}
RECURRENT = ["char-lstm", "gru"]
OPTIONS = {"mlp": "hidden = [20, 11]", "resnet20": "groups = 4"}


def seccogc(*words):
    done = subprocess.run([arguments.program, *map(str, words)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"seccogc {' '.join(map(str, words))}: {done.stderr.strip()}")
    return done.stdout


def write_png(path, image):
    """An image of [channels, height, width] bytes."""
    channels, height, width = image.shape
    rows = b"".join(b"\0" + image[:, row].T.tobytes() for row in range(height))
    kind = {1: 0, 3: 2}[channels]
    parts = [(b"IHDR", struct.pack(">2I5B", width, height, 8, kind, 0, 0, 0)), (b"IDAT", zlib.compress(rows)), (b"IEND", b"")]
    body = b"".join(struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + body)


def images(folder, shape, generator):
    """24 training images of three classes, and nine new ones as [examples, channels, height, width] in [0, 1]."""
    for name in ["ant", "bee", "cat"]:
        (folder / "train" / name).mkdir(parents=True)
        for i in range(8):
            write_png(folder / "train" / name / f"{i}.png", generator.integers(0, 256, shape, dtype=numpy.uint8))
    (folder / "new").mkdir()
    new = generator.integers(0, 256, (9, *shape), dtype=numpy.uint8)
    for i, image in enumerate(new):
        write_png(folder / "new" / f"{i}.png", image)
    return 'name = "image-folder"\ntrain = "train"', folder / "new", new.astype(numpy.float32) / numpy.float32(255)


def table(folder, columns, generator):
    """The same as the rows of a table, features of very different sizes."""
    folder.mkdir(parents=True)
    rows = (generator.normal(size=(39, columns)) * 10.0 ** numpy.arange(-3, columns - 3)).astype(numpy.float32)
    names = [f"x{i}" for i in range(columns)]
    for file, part in [("train.csv", rows[:30]), ("new.csv", rows[30:])]:
        with open(folder / file, "w", newline="") as out:
            lines = csv.writer(out)
            lines.writerow(names + (["kind"] if file == "train.csv" else []))
            for i, row in enumerate(part):
                lines.writerow([repr(float(x)) for x in row] + ([["ant", "bee", "cat"][i % 3]] if file == "train.csv" else []))
    return 'name = "table"\ntrain = "train.csv"', folder / "new.csv", rows[30:]


def texts(folder, length, generator):
    """The same as texts of six letters in LEAF's form, examples as the model sees them: [examples, tokens, 1, length]."""
    folder.mkdir(parents=True)
    letters = "abcdef"
    draws = generator.integers(0, 6, (39, length))
    for file, rows in [("train.json", draws[:30]), ("new.json", draws[30:])]:
        x = ["".join(letters[i] for i in row) for row in rows]
        y = [["ant", "bee", "cat"][i % 3] for i in range(len(x))]
        users = {f"user{k}": {"x": x[k::3]} | ({"y": y[k::3]} if file == "train.json" else {}) for k in range(3)}
        (folder / file).write_text(json.dumps({"users": list(users), "user_data": users}))
    seen = numpy.concatenate([draws[30:][k::3] for k in range(3)])
    examples = (seen[:, None, None, :] == numpy.arange(7)[:, None, None]).astype(numpy.float32)
    return 'name = "leaf"\ntrain = "train.json"\ntest = "train.json"', folder / "new.json", examples


def check(model, folder, data, new, examples):
    """Largest differences from the program's logits: PyTorch from safetensors and npz, onnxruntime at once and one by one."""
    options = OPTIONS.get(model, "")
    config = folder / f"{model}.toml"
    natural = '[partition]\nkind = "natural"\n' if '"leaf"' in data else ""
    config.write_text(
        f'rounds = 1\nclients = 2\n{natural}[data]\n{data}\n[model]\nkind = "{model}"\n{options}\n[solver]\nkind = "sgd"\nsteps = 3\n'
        f'learning_rate = 0.05\nbatch_size = 8\n[protocol]\nkind = "ideal"\n[privacy]\nmeasure = false\n'
    )
    run = folder / model
    seccogc("train", config, "--out", run, "--quiet")
    for form in ["safetensors", "npz", "onnx"]:
        seccogc("export", run, "--format", form)
    lines = list(csv.reader(seccogc("predict", run, new, "--logits").splitlines()))
    assert lines[0] == ["example", "label", "logit(ant)", "logit(bee)", "logit(cat)"], lines[0]
    own = numpy.array([[float(x) for x in line[2:]] for line in lines[1:]])

    with safetensors.safe_open(run / "model.safetensors", "pt") as file:
        about = json.loads(file.metadata()["seccogc"])
    along = (-1, 1, 1) if examples.ndim == 4 else (-1,)
    mean, std = (numpy.array(about[name], numpy.float32).reshape(along) for name in ["mean", "std"])
    inputs = torch.from_numpy((examples - mean) / std)
    module = MODULES[model](about["shape"], len(about["classes"]))
    with torch.no_grad():
        module(inputs)  # Lazy layers take their shapes; the weights that they draw are replaced.
        found = []
        arrays = numpy.load(run / "model.npz")
        for weights in [safetensors.torch.load_file(run / "model.safetensors"), {name: torch.from_numpy(arrays[name]) for name in arrays}]:
            for parameter in module.parameters():
                parameter.fill_(float("nan"))
            module.load_state_dict(weights, strict=True)
            found.append(module(inputs).numpy())
    onnx.checker.check_model(onnx.load(run / "model.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(run / "model.onnx", providers=["CPUExecutionProvider"])
    one_by_one = [session.run(["logits"], {"examples": examples[i:i + 1]})[0] for i in range(len(examples))]
    found += [session.run(["logits"], {"examples": examples})[0], numpy.concatenate(one_by_one)]
    size = sum(p.numel() for p in module.parameters())
    return size, numpy.abs(own).max(), [numpy.abs(own - other).max() for other in found]


def main():
    generator = numpy.random.default_rng(1)
    torch.manual_seed(1)
    listed = [line.split("|")[1].strip() for line in seccogc("model", "list").splitlines()[2:]]
    assert sorted(listed) == sorted(MODULES), f"the program has {listed}"
    lines, worst = [], 0.0
    shapes = [(1, 28, 28), (3, 32, 32), (3, 21, 34)]
    of_images = [model for model in listed if model not in RECURRENT]
    fits = lambda model, shape: model != "vgg11" or min(shape[1:]) >= 32
    cases = [
        (f"images {'×'.join(map(str, shape))}", images, shape, [model for model in of_images if fits(model, shape)])
        for shape in shapes
    ]
    cases.append(("table of 7 features", table, 7, ["softmax", "mlp"]))
    cases.append(("texts of 12 letters", texts, 12, ["softmax", "mlp", *RECURRENT]))
    for place, (name, make, shape, models) in enumerate(cases):
        folder = arguments.out / f"data{place}"
        data, new, examples = make(folder, shape, generator)
        for model in models:
            size, largest, differences = check(model, folder, data, new, examples)
            worst = max(worst, *differences)
            lines.append([model, name, f"{size:,}", f"{largest:.3f}"] + [f"{x:.1e}" for x in differences])
    header = ["model", "examples", "parameters", "largest logit", "PyTorch, safetensors", "PyTorch, npz", "onnxruntime", "onnxruntime, one by one"]
    widths = [max(len(line[i]) for line in [header, *lines]) for i in range(len(header))]
    rule = [":" + "-" * (width + 1) if i < 2 else "-" * (width + 1) + ":" for i, width in enumerate(widths)]
    text = lambda line: "|" + "".join(f" {x:<{w}} |" if i < 2 else f" {x:>{w}} |" for i, (x, w) in enumerate(zip(line, widths)))
    page = "\n".join([text(header), "|" + "".join(f"{x}|" for x in rule), *map(text, lines)])
    versions = ", ".join(f"{library.__name__} {library.__version__}" for library in [torch, onnxruntime, onnx, numpy])
    page += f"\n\nLargest difference: {worst:.1e}. {versions}.\n"
    (arguments.out / "export.md").write_text(page)
    print(page, end="")
    if not worst < LIMIT:
        sys.exit(f"a logit differs by {worst}, more than {LIMIT}")


main()
