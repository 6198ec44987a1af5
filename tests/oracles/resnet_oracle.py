"""Parameters of a ResNet encoder without its classification layer, by arithmetic (arXiv 1512.03385, table 1)."""


def count_parameters(blocks, width, *, bottleneck=False, imagenet_stem=False):
    """Trainable parameters: kernels without bias, and γ and β of each batch norm."""

    def conv_norm(inputs, outputs, kernel):
        return kernel * kernel * inputs * outputs + 2 * outputs

    total = conv_norm(3, width, 7 if imagenet_stem else 3)
    channels = width
    for stage, n_blocks in enumerate(blocks):
        inner = width * 2**stage
        outputs = 4 * inner if bottleneck else inner
        for block in range(n_blocks):
            if bottleneck:
                total += conv_norm(channels, inner, 1) + conv_norm(inner, inner, 3) + conv_norm(inner, outputs, 1)
            else:
                total += conv_norm(channels, inner, 3) + conv_norm(inner, outputs, 3)
            if channels != outputs or (block == 0 and stage > 0):
                total += conv_norm(channels, outputs, 1)
            channels = outputs
    return total
