"""A ResNet encoder without its classification layer in plain NumPy: its parameters by arithmetic, its forward pass.

From the papers (arXiv 1512.03385, 1812.01187, 1903.06586, 2006.10029) and, where they are silent, from the published
behaviour: padding by the kernel, ResNet-D's average pool.
"""

import numpy as np


def count_parameters(blocks, width, *, bottleneck=False, imagenet_stem=False, sk_ratio=0, statistics=False):
    """Kernels without bias, γ and β of each batch norm, and with `statistics` its moving mean and variance."""
    per_norm = 4 if statistics else 2

    def conv_norm(inputs, outputs, kernel):
        return kernel * kernel * inputs * outputs + per_norm * outputs

    if imagenet_stem and sk_ratio:
        half = width // 2
        total = conv_norm(3, half, 3) + conv_norm(half, half, 3) + conv_norm(half, width, 3)
    else:
        total = conv_norm(3, width, 7 if imagenet_stem else 3)
    channels = width
    for stage, n_blocks in enumerate(blocks):
        inner = width * 2**stage
        outputs = 4 * inner if bottleneck else inner
        for block in range(n_blocks):
            if bottleneck:
                total += conv_norm(channels, inner, 1) + conv_norm(inner, outputs, 1)
            if bottleneck and sk_ratio:
                reduced = max(int(sk_ratio * inner), 32)
                total += conv_norm(inner, 2 * inner, 3) + conv_norm(inner, reduced, 1) + reduced * 2 * inner
            elif bottleneck:
                total += conv_norm(inner, inner, 3)
            else:
                total += conv_norm(channels, inner, 3) + conv_norm(inner, outputs, 3)
            if channels != outputs or (block == 0 and stage > 0):
                total += conv_norm(channels, outputs, 1)
            channels = outputs
    return total


class Forward:
    """Inference of a network whose weights are given by name: `stage0_block0_a_conv/kernel` and so on."""

    def __init__(self, weights, *, blocks, bottleneck=False, imagenet_stem=False, sk=False):
        self.weights = {name: np.asarray(value, np.float64) for name, value in weights.items()}
        self.blocks, self.bottleneck, self.imagenet_stem, self.sk = blocks, bottleneck, imagenet_stem, sk

    def __call__(self, images):
        """[B, H, W, 3] → h [B, D]."""
        x = np.asarray(images, np.float64)
        if self.imagenet_stem and self.sk:
            x = self.conv_norm_relu(x, "stem_a", stride=2)
            x = self.conv_norm_relu(self.conv_norm_relu(x, "stem_b"), "stem_c")
        else:
            x = self.conv_norm_relu(x, "stem", stride=2 if self.imagenet_stem else 1)
        if self.imagenet_stem:
            x = max_pool(x)
        for stage, n_blocks in enumerate(self.blocks):
            for block in range(n_blocks):
                x = self.block(x, f"stage{stage}_block{block}", stride=2 if stage > 0 and block == 0 else 1)
        return x.mean(axis=(1, 2))

    def block(self, x, name, *, stride):
        shortcut = x
        if f"{name}_shortcut_conv/kernel" in self.weights:
            pooled = average_pool(x, stride) if self.sk else x
            shortcut = self.conv_norm(pooled, f"{name}_shortcut", stride=1 if self.sk else stride)
        if self.bottleneck:
            y = self.conv_norm_relu(x, f"{name}_a")
            y = self.selective(y, f"{name}_b", stride) if self.sk else self.conv_norm_relu(y, f"{name}_b", stride)
            y = self.conv_norm(y, f"{name}_c")
        else:
            y = self.conv_norm(self.conv_norm_relu(x, f"{name}_a", stride), f"{name}_b")
        return np.maximum(shortcut + y, 0)

    def selective(self, x, name, stride):
        x = self.conv_norm_relu(x, name, stride)
        half = x.shape[-1] // 2
        branches = x[..., :half], x[..., half:]
        pooled = (branches[0] + branches[1]).mean(axis=(1, 2), keepdims=True)
        logits = conv(self.conv_norm_relu(pooled, f"{name}_reduce"), self.weights[f"{name}_weigh_conv/kernel"], 1)
        first = 1 / (1 + np.exp(logits[..., half:] - logits[..., :half]))  # softmax over two
        return first * branches[0] + (1 - first) * branches[1]

    def conv_norm_relu(self, x, name, stride=1):
        return np.maximum(self.conv_norm(x, name, stride), 0)

    def conv_norm(self, x, name, stride=1):
        x = conv(x, self.weights[f"{name}_conv/kernel"], stride)
        gamma, beta, mean, variance = (
            self.weights[f"{name}_norm/{part}"] for part in ("gamma", "beta", "moving_mean", "moving_variance")
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * gamma + beta


def conv(x, kernel, stride):
    """Pads by (k-1)//2 before and k//2 after, whatever the size of x."""
    size = kernel.shape[0]
    pad = ((size - 1) // 2, size // 2)
    x = np.pad(x, ((0, 0), pad, pad, (0, 0)))
    height, width = ((side - size) // stride + 1 for side in x.shape[1:3])
    out = np.zeros([x.shape[0], height, width, kernel.shape[-1]])
    for row in range(height):
        for column in range(width):
            top, left = row * stride, column * stride
            patch = x[:, top : top + size, left : left + size]
            out[:, row, column] = np.tensordot(patch, kernel, axes=3)
    return out


def average_pool(x, stride):
    """2x2. With a stride a zero stands beyond the last row and column; without, the window ends at the image."""
    if stride > 1:
        x = np.pad(x, ((0, 0), (0, 1), (0, 1), (0, 0)))
        rows, columns = range(0, x.shape[1] - 1, stride), range(0, x.shape[2] - 1, stride)
    else:
        rows, columns = range(x.shape[1]), range(x.shape[2])
    return np.stack([np.stack([x[:, r : r + 2, c : c + 2].mean(axis=(1, 2)) for c in columns], 1) for r in rows], 1)


def max_pool(x):
    """3x3 stride 2; half of the padding that a side needs comes before it, the rest after."""

    def windows(side):
        count = -(-side // 2)
        before = max((count - 1) * 2 + 3 - side, 0) // 2
        return [slice(max(2 * i - before, 0), 2 * i - before + 3) for i in range(count)]

    return np.stack(
        [np.stack([x[:, r, c].max(axis=(1, 2)) for c in windows(x.shape[2])], 1) for r in windows(x.shape[1])], 1
    )
