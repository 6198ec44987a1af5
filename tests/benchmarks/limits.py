"""What no implementation can beat on a machine: the arithmetic and the bytes that a task needs at the least."""

from collections.abc import Sequence
from dataclasses import dataclass

_FLOAT_BYTES = {"float32": 4, "mixed_bfloat16": 2}
_PASSES = 3  # forward, the gradient by the weights, the gradient by the input; each costs the same
_HEAD_OUTPUT = 128

# Operations for each pixel of a view. Resampling: two passes of two taps. Jitter, for 8 of 10 views: three blends,
# the luma of two of them, a turn in HSV. Grayscale: a luma for 2 of 10. Blur, for half the photographs: two passes.
_RESAMPLING = 2 * 2 * 2 * 3
_JITTER = 0.8 * (3 * 2 * 3 + 2 * 5 + 20)
_GRAY = 0.2 * 5
_BLUR_PER_TAP = 0.5 * 2 * 2 * 3


@dataclass(frozen=True)
class Needs:
    """What one batch takes.

    Attributes:
        flop: operations of floating point.
        bytes: read from memory or written to it.
    """

    flop: float
    bytes: float


@dataclass(frozen=True)
class Machine:
    """What some cores were measured to do: `flop_per_s` in a large matrix product, `bytes_per_s` in a large copy."""

    flop_per_s: float
    bytes_per_s: float

    def seconds(self, needs: Needs) -> tuple[float, float]:
        """The least time for the arithmetic alone, and for the bytes alone."""
        return needs.flop / self.flop_per_s, needs.bytes / self.bytes_per_s


def two_views(*, batch: int, size_px: int, image_px: tuple[int, int]) -> Needs:
    """Two views of decoded images: each image is read once as uint8, its views are written once as float32."""
    pixels = 2 * size_px**2
    blur = (2 * (size_px // 20) + 1) * _BLUR_PER_TAP if tuple(image_px) != (size_px, size_px) else 0.0
    flop = pixels * (_RESAMPLING + _JITTER + _GRAY + blur)
    return Needs(batch * flop, batch * 3 * (image_px[0] * image_px[1] + 4 * pixels))


def training_step(*, batch: int, stage_blocks: Sequence[int], width: int, size_px: int, precision: str) -> Needs:
    """The convolutions and the head of a ResNet of basic blocks without max-pool, both views, forward and backward.

    Each convolution reads its input and writes its output once in each of three passes. Norms, loss and optimiser
    are left out: they are a few percent of the arithmetic, and a compiler could fuse their traffic away.
    """
    convolutions = _convolutions(stage_blocks, width, size_px)
    h_dim = convolutions[-1].outputs
    dense = 2 * h_dim * (h_dim + _HEAD_OUTPUT)
    flop = _PASSES * (sum(c.flop for c in convolutions) + dense) - convolutions[0].flop  # images need no gradient
    values = _PASSES * sum(c.values for c in convolutions)
    return Needs(2 * batch * flop, 2 * batch * values * _FLOAT_BYTES[precision])


def nt_xent(*, rows: int, dim: int) -> Needs:
    """NT-Xent and its gradient: three products with the matrix of similarities, which is written and read twice."""
    return Needs(6.0 * rows**2 * dim, 4.0 * rows**2 * 4)


@dataclass(frozen=True)
class _Convolution:
    kernel: int
    inputs: int
    outputs: int
    in_px: int
    out_px: int

    @property
    def flop(self) -> int:
        return 2 * self.kernel**2 * self.inputs * self.outputs * self.out_px**2

    @property
    def values(self) -> int:
        return self.inputs * self.in_px**2 + self.outputs * self.out_px**2


def _convolutions(stage_blocks: Sequence[int], width: int, size_px: int) -> list[_Convolution]:
    found = [_Convolution(3, 3, width, size_px, size_px)]
    channels, side = width, size_px
    for stage, blocks in enumerate(stage_blocks):
        outputs, out_px = width * 2**stage, size_px // 2**stage
        for _ in range(blocks):
            found.append(_Convolution(3, channels, outputs, side, out_px))
            found.append(_Convolution(3, outputs, outputs, out_px, out_px))
            if channels != outputs:
                found.append(_Convolution(1, channels, outputs, side, out_px))
            channels, side = outputs, out_px
    return found
