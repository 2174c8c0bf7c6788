"""Three residual classifiers for GPUs, those of DPImageBench, with GroupNorm where their papers have BatchNorm.

Each has three stages of equal length, which halve the image twice, a mean over all places, and a linear head.
"""

from torch import Tensor, nn
from torch.nn import functional as F

CHANNELS_PER_GROUP = 16  # Wu & He 2018, Table 3


class PlainBlock(nn.Module):
    """Two convolutions beside a shortcut, which has no weights: it skips pixels and fills new channels with zeros.

    Source: He et al. 2016, section 4.2, option A.
    """

    def __init__(self, chan_in: int, chan_out: int, stride: int):
        super().__init__()
        self.stride, self.new_channels = stride, chan_out - chan_in
        self.layers = nn.Sequential(
            _convolution(chan_in, chan_out, 3, stride=stride),
            _norm(chan_out),
            nn.ReLU(),
            _convolution(chan_out, chan_out, 3),
            _norm(chan_out),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, 0, self.new_channels))
        return F.relu(shortcut + self.layers(x))


class WideBlock(nn.Module):
    """Two convolutions after their norms, with dropout between them.

    Source: Zagoruyko & Komodakis 2016, figure 1(d).
    """

    def __init__(self, chan_in: int, chan_out: int, stride: int):
        super().__init__()
        self.before = nn.Sequential(_norm(chan_in), nn.ReLU())
        self.layers = nn.Sequential(
            _convolution(chan_in, chan_out, 3, stride=stride),
            _norm(chan_out),
            nn.ReLU(),
            nn.Dropout(0.3),
            _convolution(chan_out, chan_out, 3),
        )
        self.shortcut = _convolution(chan_in, chan_out, 1, stride=stride) if chan_in != chan_out else None

    def forward(self, x: Tensor) -> Tensor:
        active = self.before(x)
        return (x if self.shortcut is None else self.shortcut(active)) + self.layers(active)


class AggregatedBlock(nn.Module):
    """Bottleneck of eight parallel paths, 64 channels each in the first stage.

    Source: Xie et al. 2017, figure 3(c).
    """

    def __init__(self, chan_in: int, chan_out: int, stride: int):
        super().__init__()
        inner = 2 * chan_out
        self.layers = nn.Sequential(
            _convolution(chan_in, inner, 1),
            _norm(inner),
            nn.ReLU(),
            _convolution(inner, inner, 3, stride=stride, groups=8),
            _norm(inner),
            nn.ReLU(),
            _convolution(inner, chan_out, 1),
            _norm(chan_out),
        )
        projection = nn.Sequential(_convolution(chan_in, chan_out, 1, stride=stride), _norm(chan_out))
        self.shortcut = projection if chan_in != chan_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.shortcut(x) + self.layers(x))


def resnet_110(image_channels: int, num_classes: int) -> nn.Sequential:
    """ResNet-110: images [num, chan, height, width] in [-1, 1] to logits [num, num_classes]; 1.7 million weights."""
    stem = nn.Sequential(_convolution(image_channels, 16, 3), _norm(16), nn.ReLU())
    return _network(stem, _stages(PlainBlock, 18, (16, 16, 32, 64)), _head(64, num_classes))


def wide_resnet_40_4(image_channels: int, num_classes: int) -> nn.Sequential:
    """WRN-40-4: images [num, chan, height, width] in [-1, 1] to logits [num, num_classes]; 8.9 million weights."""
    last = nn.Sequential(_norm(256), nn.ReLU(), _head(256, num_classes))
    return _network(_convolution(image_channels, 16, 3), _stages(WideBlock, 6, (16, 64, 128, 256)), last)


def resnext_29(image_channels: int, num_classes: int) -> nn.Sequential:
    """ResNeXt-29, 8x64d: images [num, chan, height, width] in [-1, 1] to logits [num, num_classes]; 34.4 million."""
    stem = nn.Sequential(_convolution(image_channels, 64, 3), _norm(64), nn.ReLU())
    return _network(stem, _stages(AggregatedBlock, 3, (64, 256, 512, 1024)), _head(1024, num_classes))


def _network(stem: nn.Module, stages: nn.Module, head: nn.Module) -> nn.Sequential:
    network = nn.Sequential(stem, stages, head)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
    return network


def _stages(
    block: type[PlainBlock] | type[WideBlock] | type[AggregatedBlock], length: int, widths: tuple[int, int, int, int]
) -> nn.Sequential:
    blocks = []
    for stage in range(3):
        for index in range(length):
            first = index == 0
            stride = 2 if first and stage > 0 else 1
            blocks.append(block(widths[stage] if first else widths[stage + 1], widths[stage + 1], stride))
    return nn.Sequential(*blocks)


def _head(channels: int, num_classes: int) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, num_classes))


def _norm(channels: int) -> nn.GroupNorm:
    return nn.GroupNorm(channels // CHANNELS_PER_GROUP, channels)


def _convolution(chan_in: int, chan_out: int, size: int, *, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(chan_in, chan_out, size, stride=stride, padding=size // 2, groups=groups, bias=False)
