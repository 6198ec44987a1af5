"""The published figures stand beside the cells they were measured for, whatever is configured."""

import pytest

from trainer import resnet
from trainer.ablations import figures
from trainer.ablations.tables import ABLATIONS
from trainer.config import PRESETS, EncoderConfig, HeadConfig, MethodConfig, encoder_of_depth


def labels_of(encoder, *, head_layers=3, student=None):
    config = MethodConfig()
    pretrain = config.pretrain.model_copy(update={"encoder": encoder, "head": HeadConfig(layers=head_layers)})
    distill = config.distill.model_copy(update={"student": student or encoder})
    return figures.labels(config.model_copy(update={"pretrain": pretrain, "distill": distill}))


@pytest.mark.parametrize(
    ("preset", "linear", "finetuned", "source"),
    [
        ("imagenet_r50_v1", 69.3, (48.3, 65.6, None), "2002.05709, tables 6 and B.4: ImageNet, ResNet-50 1x"),
        ("imagenet_r50_v2", 71.7, (57.9, 68.4, 76.3), "2006.10029, table 1: ImageNet, ResNet-50 1x"),
        ("imagenet_r152_3x_sk_v2", 79.8, (74.9, 80.1, 83.1), "2006.10029, table 1: ImageNet, ResNet-152 3x with SK"),
        ("cifar10_r18", 91.0, (None, None, None), "CIFAR-10, ResNet-18"),
        ("laptop", 71.7, (57.9, 68.4, 76.3), "2006.10029, table 1: ImageNet, ResNet-50 1x"),
    ],
)
def test_labels_of_a_preset_stand_beside_the_figures_of_its_own_network(preset, linear, finetuned, source):
    published = figures.labels(PRESETS[preset]())
    assert published.top1["linear", "100%"] == linear
    assert tuple(published.top1.get(("finetune", share)) for share in ("1%", "10%", "100%")) == finetuned
    assert source in published.source


@pytest.mark.parametrize(
    ("encoder", "head_layers", "linear"),
    [
        (encoder_of_depth(50, sk_ratio=0.0625), 3, 74.6),
        (encoder_of_depth(50, width_multiplier=2, sk_ratio=0.0625), 3, 77.7),
        (encoder_of_depth(50, width_multiplier=2), 2, 74.2),  # v1
        (encoder_of_depth(50, width_multiplier=4), 2, 76.5),
        (encoder_of_depth(50, width_multiplier=2), 3, 75.6),  # v2
        (encoder_of_depth(34), 3, 71.7),  # in no table: of as many blocks as ResNet-50, and another network
    ],
)
def test_labels_of_a_network_are_told_from_those_of_its_neighbours(encoder, head_layers, linear):
    assert labels_of(encoder, head_layers=head_layers).top1["linear", "100%"] == linear


def test_labels_of_a_wider_teacher_are_distilled_into_the_published_student_alone():
    big = encoder_of_depth(152, width_multiplier=3, sk_ratio=0.0625)
    taught = labels_of(big, student=encoder_of_depth(50))
    assert (taught.top1["distilled", "1%"], taught.top1["distilled", "10%"]) == (73.9, 77.5)
    assert "abstract" in taught.source and "B.4" not in taught.source
    for other in (34, 101):
        assert ("distilled", "1%") not in labels_of(big, student=encoder_of_depth(other)).top1


def test_supervised_figures_of_few_labels_are_those_of_resnet_50_alone():
    for layers in (2, 3):
        published = labels_of(encoder_of_depth(50), head_layers=layers)
        assert (published.top1["supervised", "1%"], published.top1["supervised", "10%"]) == (25.4, 56.4)
    assert ("supervised", "1%") not in labels_of(encoder_of_depth(101)).top1


@pytest.mark.parametrize(
    ("scaling", "corner", "n_figures"), [("linear", 57.5, 24), ("sqrt", 62.8, 24), ("none", None, 0)]
)
def test_batch_figures_are_those_of_the_configured_rule_of_the_rate(scaling, corner, n_figures):
    config = PRESETS["imagenet_r50_v2"]()
    optimizer = config.pretrain.optimizer.model_copy(update={"scaling": scaling})
    config = config.model_copy(update={"pretrain": config.pretrain.model_copy(update={"optimizer": optimizer})})
    top1 = figures.batch(config).top1
    assert (top1.get(("batch 256", "100 epochs")), len(top1)) == (corner, n_figures)
    assert top1.keys() <= {(cell.row, cell.column) for cell in ABLATIONS["batch"].cells(config)}


def test_every_table_says_its_source_and_the_pictures_say_that_they_are_pictures():
    published = {name: ablation.published(MethodConfig()) for name, ablation in ABLATIONS.items()}
    assert all("arXiv 200" in each.source for each in published.values())
    without = {name for name, each in published.items() if not each.top1}
    pictures = {name for name, each in published.items() if "a picture" in each.source}
    assert pictures == {"composition", "head"} and without == pictures | {"batch"}  # its rate is not scaled


def test_figures_are_accuracies_in_percent():
    for name, ablation in ABLATIONS.items():
        for preset in PRESETS.values():
            assert all(10 < value < 100 for value in ablation.published(preset()).top1.values()), name


@pytest.mark.parametrize("block", ["basic", "bottleneck"])
def test_dimensions_of_h_are_those_of_the_built_encoder(block):
    config = EncoderConfig(stage_blocks=(1, 1), width=4, block=block)
    assert config.output_dim == resnet.build_encoder(config, size_px=8, seed=0).output_shape[-1]
