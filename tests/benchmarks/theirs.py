"""lightly's side: one task in a process of its own, in the environment of `requirements.txt`.

`python -m benchmarks.theirs '{"task": ...}'`. The choices that are not lightly's own are those that were
fastest here: memory in channels_last, and no `torch.compile` (docs/performance.md).
"""

import time
from collections.abc import Callable

import torch
from lightly.data import LightlyDataset
from lightly.loss import NTXentLoss
from lightly.models.modules import SimCLRProjectionHead
from lightly.models.resnet import ResNet
from lightly.transforms import SimCLRTransform
from lightly.utils.lars import LARS
from PIL import Image
from torch import Tensor, nn

from benchmarks import measure, pictures
from benchmarks.measure import Figures

_TEMPERATURE = 0.5
_OUTPUT_DIM = 128
_STAGES = 4  # that lightly's ResNet always has
_WIDTH = 64


def augmentation(*, batch: int, size_px: int, repeats: int) -> Figures:
    """Seconds for two views of a batch of decoded images, one after the other, as a DataLoader's worker does it."""
    decoded = pictures.small(batch) if size_px == pictures.SMALL_PX else pictures.photos(batch)
    images = [Image.fromarray(image) for image in decoded]
    transform = _transform(size_px)
    return {"seconds": measure.seconds_of(lambda: [transform(image) for image in images], repeats=repeats)}


def step(*, batch: int, stage_blocks: list[int], width: int, precision: str, repeats: int) -> Figures:
    """Seconds of a training step on views that are there: both forward passes at once, loss, backward, LARS."""
    train_on = _training(stage_blocks=stage_blocks, width=width, precision=precision)
    views = torch.rand(2 * batch, 3, pictures.SMALL_PX, pictures.SMALL_PX)
    return {"seconds": measure.seconds_of(lambda: train_on(views), repeats=repeats)}


def files(
    *, folder: str, batch: int, stage_blocks: list[int], width: int, size_px: int, epochs: int, workers: int
) -> Figures:
    """Training from a folder of image files through a DataLoader with worker processes; rates as in `ours.files`."""
    loader = torch.utils.data.DataLoader(
        LightlyDataset(folder, transform=_transform(size_px)),
        batch_size=batch,
        shuffle=True,
        drop_last=True,
        num_workers=workers,
        persistent_workers=True,
    )
    train_on = _training(stage_blocks=stage_blocks, width=width, precision="float32")
    started, waited, steps = None, 0.0, -1
    for _ in range(epochs):
        batches, asked = iter(loader), time.perf_counter()
        for (first, second), *_ in batches:
            waited += time.perf_counter() - asked
            train_on(torch.cat([first, second]))
            steps += 1
            asked = time.perf_counter()
            if started is None:
                started, waited = asked, 0.0
    elapsed = time.perf_counter() - started
    return {"seconds": elapsed / steps, "waits": waited / elapsed}


def loss(*, rows: int, dim: int) -> Figures:
    """Seconds and memory of NT-Xent and its gradient."""
    z_a, z_b = (torch.randn(rows // 2, dim, requires_grad=True) for _ in range(2))
    criterion = NTXentLoss(temperature=_TEMPERATURE)

    def loss_and_gradients() -> None:
        z_a.grad = z_b.grad = None
        criterion(z_a, z_b).backward()

    return measure.seconds_and_mib(loss_and_gradients)


def _training(*, stage_blocks: list[int], width: int, precision: str) -> Callable[[Tensor], float]:
    """A step on both views of a batch, [2B, 3, S, S]."""
    n_stages = len(stage_blocks)
    encoder = ResNet(layers=[*stage_blocks, *[1] * (_STAGES - n_stages)], width=width / _WIDTH)
    h_dim = width * 2 ** (n_stages - 1)
    convolution, norm, *stages = list(encoder.children())[: 2 + n_stages]
    # A pool of any size: lightly's own expects images of 32 px and four stages.
    layers = [convolution, norm, nn.ReLU(inplace=True), *stages, nn.AdaptiveAvgPool2d(1), nn.Flatten()]
    head = SimCLRProjectionHead(h_dim, h_dim, _OUTPUT_DIM)
    model = nn.Sequential(*layers, head).to(memory_format=torch.channels_last)
    kernels = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    vectors = [parameter for parameter in model.parameters() if parameter.ndim == 1]
    optimizer = LARS(
        [{"params": kernels, "weight_decay": 1e-6}, {"params": vectors, "weight_decay": 0.0}], lr=0.3, momentum=0.9
    )
    criterion = NTXentLoss(temperature=_TEMPERATURE)

    def train_on(views: Tensor) -> float:
        optimizer.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=precision == "mixed_bfloat16"):
            z = model(views.contiguous(memory_format=torch.channels_last))
        value = criterion(*z.float().chunk(2))
        value.backward()
        optimizer.step()
        return value.item()

    return train_on


def _transform(size_px: int) -> SimCLRTransform:
    """As the papers have it for small images and for photographs; as ours, without lightly's normalisation."""
    is_small = size_px == pictures.SMALL_PX
    return SimCLRTransform(
        input_size=size_px,
        cj_strength=0.5 if is_small else 1.0,
        gaussian_blur=0.0 if is_small else 0.5,
        normalize=None,
    )


TASKS = {function.__name__: function for function in (augmentation, step, files, loss)}

if __name__ == "__main__":
    measure.answer(TASKS)
