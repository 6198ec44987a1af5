import pytest
from example_files import class_images
from PIL import Image

from trainer import evaluation, folders, resnet
from trainer.config import AugmentConfig, ClassifierConfig, EncoderConfig, OptimizerConfig, ProbeConfig

TINY = EncoderConfig(stage_blocks=(1,), width=4)


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    root = tmp_path_factory.mktemp("images")
    for index, image in enumerate(class_images([0, 1] * 4)):
        path = root / ("cat", "dog")[index % 2] / f"{index}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image).save(path)
    return folders.open_folder(str(root))


def scores(files, **settings):
    encoder = resnet.build_encoder(TINY, size_px=8, seed=1)
    return evaluation.scores(ProbeConfig(**settings), encoder, files, files, encoder_config=TINY, seed=2)


@pytest.mark.filterwarnings("ignore:Even though the `tf.config.experimental_run_functions_eagerly`:UserWarning")
@pytest.mark.usefixtures("eager")
def test_gradient_probe_says_with_what_it_was_trained(files):
    training = ClassifierConfig(
        augment=AugmentConfig(jitter_strength=0.0, grayscale_probability=0.0),
        batch_size=4096,
        steps=3,
        optimizer=OptimizerConfig(name="sgd", learning_rate=0.1, scaling="linear", weight_decay=0.01),
    )
    found = scores(files, method="gradient", gradient=training)
    accuracies, settings = found["gradient"]
    assert 0 <= accuracies["top1"] <= 1
    # The batch is that of all eight images, and an epoch is one step.
    assert settings == {"learning_rate": 0.1 * 8 / 256, "weight_decay": 0.01, "epochs": 3, "batch_size": 8}
    assert found["knn"][1] == {"k": 8, "temperature": 0.07}


def test_solved_probe_says_what_it_chose(files):
    _, settings = scores(files, inverse_regularization=(0.5,))["logistic"]
    assert settings == {"C": 0.5, "folds": 4}
