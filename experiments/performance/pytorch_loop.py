"""A plain PyTorch loop: local training of the models of seccogc on MNIST-shaped images.

Reads lines `MODEL IMAGES` and answers each with the images per second of one epoch (batch 32, SGD, shuffled), on the
number of threads given as the only argument. The data are random: the arithmetic does not depend on them.
"""

import sys
import time

import torch
from torch import nn
from torch.nn import functional as F

torch.manual_seed(0)
torch.set_num_threads(int(sys.argv[1]))


def conv_net(*layers):
    return lambda: nn.Sequential(*(layer() for layer in layers))


def conv(*args, **kwargs):
    return lambda: nn.Conv2d(*args, **kwargs)


def linear(*args):
    return lambda: nn.Linear(*args)


def pool(*args, **kwargs):
    return lambda: nn.MaxPool2d(*args, **kwargs)


class Block(nn.Module):
    """Two 3×3 convolutions with group normalisation around a shortcut, without parameters or with a projection."""

    def __init__(self, before, after, projects=False):
        super().__init__()
        self.stride = after // before
        if projects and self.stride == 2:
            self.projection = nn.Sequential(nn.Conv2d(before, after, 1, 2, bias=False), nn.GroupNorm(2, after))
        self.conv1 = nn.Conv2d(before, after, 3, self.stride, 1, bias=False)
        self.conv2 = nn.Conv2d(after, after, 3, 1, 1, bias=False)
        self.norm1, self.norm2 = nn.GroupNorm(2, after), nn.GroupNorm(2, after)

    def forward(self, x):
        y = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        if hasattr(self, "projection"):
            x = self.projection(x)
        elif self.stride == 2:
            x = x[:, :, ::2, ::2]
            x = torch.cat([x, torch.zeros_like(x)], 1)
        return F.relu(y + x)


def resnet(widths, projects):
    block = lambda a, b: lambda: Block(a, b, projects)
    return conv_net(
        conv(3, widths[0], 3, padding=1, bias=False), lambda: nn.GroupNorm(2, widths[0]), nn.ReLU,
        *(block(a, b) for a, b in zip(widths, widths[1:])),
        lambda: nn.AdaptiveAvgPool2d(1), nn.Flatten, linear(widths[-1], 10),
    )


def vgg11():
    layers = []
    channels = [3, 64, 128, 256, 256, 512, 512, 512, 512]
    for i, (a, b) in enumerate(zip(channels, channels[1:])):
        layers += [conv(a, b, 3, padding=1), nn.ReLU] + ([pool(2)] if i in (0, 1, 3, 5, 7) else [])
    return conv_net(*layers, nn.Flatten, linear(512, 10))


MODELS = {
    "softmax": ((1, 28, 28), conv_net(nn.Flatten, linear(784, 10))),
    "mlp": ((1, 28, 28), conv_net(nn.Flatten, linear(784, 200), nn.ReLU, linear(200, 10))),
    "cnn": (
        (1, 28, 28),
        conv_net(
            conv(1, 32, 5, padding=2), pool(2), nn.ReLU,
            conv(32, 64, 5, padding=2), pool(2), nn.ReLU,
            nn.Flatten, linear(3136, 512), nn.ReLU, linear(512, 10),
        ),
    ),
    "lenet5": (
        (1, 28, 28),
        conv_net(
            conv(1, 6, 5, padding=2), nn.Tanh, lambda: nn.AvgPool2d(2),
            conv(6, 16, 5), nn.Tanh, lambda: nn.AvgPool2d(2),
            nn.Flatten, linear(400, 120), nn.Tanh, linear(120, 84), nn.Tanh, linear(84, 10),
        ),
    ),
    "cifar-cnn": (
        (3, 32, 32),
        conv_net(
            conv(3, 64, 5, padding=2), pool(3, 2, padding=1), nn.ReLU,
            conv(64, 64, 5, padding=2), pool(3, 2, padding=1), nn.ReLU,
            nn.Flatten, linear(4096, 384), nn.ReLU, linear(384, 192), nn.ReLU, linear(192, 10),
        ),
    ),
    "resnet20": ((3, 32, 32), resnet([16, 16, 16, 16, 32, 32, 32, 64, 64, 64], False)),
    "resnet18": ((3, 32, 32), resnet([64, 64, 64, 128, 128, 256, 256, 512, 512], True)),
    "vgg11": ((3, 32, 32), vgg11()),
}


def epoch(name, images):
    """Images per second of one epoch."""
    shape, build = MODELS[name]
    model = build()
    optimiser = torch.optim.SGD(model.parameters(), lr=0.05)
    pixels, labels = torch.randn(images, *shape), torch.randint(0, 10, (images,))

    def step(batch):
        optimiser.zero_grad()
        F.cross_entropy(model(pixels[batch]), labels[batch]).backward()
        optimiser.step()

    for batch in torch.randperm(images).split(32)[:3]:
        step(batch)  # warm-up
    start = time.perf_counter()
    for batch in torch.randperm(images).split(32):
        step(batch)
    return images / (time.perf_counter() - start)


print(f"PyTorch {torch.__version__}", flush=True)
for line in sys.stdin:
    name, images = line.split()
    print(epoch(name, int(images)), flush=True)
