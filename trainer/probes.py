"""What a frozen representation is worth: logistic regression and nearest neighbours on h."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
import tf_keras
from scipy.special import softmax
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from trainer import data, embeddings, sources
from trainer.config import ProbeConfig

_SOLVER_ITERATIONS = 500
_TOP_K = 5
_FEWEST_CLASSES = 2


@dataclass(frozen=True)
class Embedded:
    """Representations of a set of images: n images, D dimensions.

    Attributes:
        h: [n, D] float32.
        label: [n] int64, an index into the classes.
        key: [n] str.
        image: [n, S, S, 3] uint8, as the network saw them, where asked for.
    """

    h: np.ndarray
    label: np.ndarray
    key: np.ndarray
    image: np.ndarray | None = None

    def take(self, indices: np.ndarray) -> "Embedded":
        """The images at some indices."""
        image = None if self.image is None else self.image[indices]
        return Embedded(self.h[indices], self.label[indices], self.key[indices], image)


def embed(encoder: tf_keras.Model, files: sources.ExampleFiles, *, keep_images: bool = False) -> Embedded:
    """h of every example, batch norm in inference mode; the encoder is not changed."""
    batches = data.evaluation_batches(files, size_px=encoder.input_shape[1])
    outputs = list(embeddings.predictions(encoder, batches))
    return Embedded(
        h=np.concatenate([batch["output"].numpy() for batch in outputs]),
        label=np.concatenate([batch["label"].numpy() for batch in outputs]),
        key=_keys(outputs),
        image=np.concatenate([np.round(batch["image"].numpy() * 255).astype(np.uint8) for batch in outputs])
        if keep_images
        else None,
    )


@dataclass(frozen=True)
class Scored:
    """Class probabilities of a set of images: `probabilities` [n, C] float32, `label` [n] int64, `key` [n] str."""

    probabilities: np.ndarray
    label: np.ndarray
    key: np.ndarray


def classify(model: tf_keras.Model, files: sources.ExampleFiles) -> Scored:
    """Class probabilities of every example under a classifier (images → (logits, h)), in inference mode."""
    outputs = list(embeddings.predictions(model, data.evaluation_batches(files, size_px=model.input_shape[1])))
    return Scored(
        probabilities=np.concatenate([tf.nn.softmax(batch["output"][0]).numpy() for batch in outputs]),
        label=np.concatenate([batch["label"].numpy() for batch in outputs]),
        key=_keys(outputs),
    )


def linear_probabilities(
    config: ProbeConfig, train: Embedded, test: Embedded, *, n_classes: int, seed: int
) -> tuple[np.ndarray, dict[str, float]]:
    """A linear classifier of standardised h, solved to its optimum: logistic regression or ridge, by `config.method`.

    The paper trains the logistic one by SGD (arXiv 2002.05709, appendix B.6), as `classifiers.train_classifier` does
    with a frozen encoder. Here its only setting, C (1/λ of ridge), is chosen by cross-validation on the labelled
    images alone; `seed` draws the folds. Ridge regresses one-hot labels in closed form, and its shares are the
    softmax of the regressed scores.

    Returns:
        [n, C] float64 class probabilities of the test images, and the settings that were chosen.

    Raises:
        ValueError: the labelled images are of one class.
    """
    if len(np.unique(train.label)) < _FEWEST_CLASSES:
        raise ValueError(f"all {len(train.label)} labelled images are of one class: a probe needs {_FEWEST_CLASSES}")
    if config.method == "ridge":
        return _ridge(config, train, test, n_classes=n_classes)
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=_SOLVER_ITERATIONS))
    smallest_class = int(np.bincount(train.label)[np.unique(train.label)].min())
    folds = min(config.folds, smallest_class)
    candidates = {"logisticregression__C": list(config.inverse_regularization)}
    if folds >= 2:
        splitter = StratifiedKFold(folds, shuffle=True, random_state=seed)
        search = GridSearchCV(classifier, candidates, cv=splitter, scoring="neg_log_loss").fit(train.h, train.label)
        classifier, chosen = search.best_estimator_, search.best_params_["logisticregression__C"]
    else:
        # One image of some class: nothing can be held out, so the middle of the candidates is taken.
        chosen = sorted(config.inverse_regularization)[len(config.inverse_regularization) // 2]
        classifier.set_params(logisticregression__C=chosen).fit(train.h, train.label)
    probabilities = np.zeros([len(test.h), n_classes])
    probabilities[:, classifier.classes_] = classifier.predict_proba(test.h)
    return probabilities, {"C": float(chosen), "folds": float(folds)}


def _ridge(
    config: ProbeConfig, train: Embedded, test: Embedded, *, n_classes: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Ridge regression of one-hot labels; λ by leave-one-out, which has a closed form too."""
    one_hot = np.eye(n_classes)[train.label]
    strengths = [1.0 / c for c in config.inverse_regularization]
    regression = make_pipeline(StandardScaler(), RidgeCV(alphas=strengths)).fit(train.h, one_hot)
    scores = regression.predict(test.h)
    # A class that no labelled image has is never answered, as in logistic regression.
    scores[:, ~one_hot.any(axis=0)] = -np.inf
    return softmax(scores, axis=1), {"C": float(1.0 / regression[-1].alpha_), "folds": float(len(train.h))}


def knn_probabilities(
    config: ProbeConfig, train: Embedded, test: Embedded, *, n_classes: int
) -> tuple[np.ndarray, dict[str, float]]:
    """Votes of the k nearest labelled images by cosine, weighted by exp(cosine/τ) (Wu et al., arXiv 1805.01978).

    Returns:
        [n, C] float64 shares of the votes, and k and τ.
    """
    k = min(config.knn_k, len(train.h))
    similarity = _unit(test.h) @ _unit(train.h).T
    nearest = np.argpartition(-similarity, k - 1, axis=1)[:, :k]
    cosines = np.take_along_axis(similarity, nearest, axis=1)
    # Shares of the votes are the same under any shift; this one leaves the nearest with a weight of 1 at any τ.
    weights = np.exp((cosines - cosines.max(axis=1, keepdims=True)) / config.knn_temperature)
    votes = np.zeros([len(test.h), n_classes])
    np.add.at(votes, (np.arange(len(test.h))[:, None], train.label[nearest]), weights)
    return votes / votes.sum(axis=1, keepdims=True), {"k": float(k), "temperature": config.knn_temperature}


def top_accuracies(probabilities: np.ndarray, labels: Sequence[int]) -> dict[str, float]:
    """Top-1 and top-5 accuracy in [0, 1]; with five classes or fewer, top-5 is 1.

    Args:
        probabilities: [n, C].
        labels: [n] indices of the true classes.
    """
    ranked = np.argsort(-probabilities, axis=1, kind="stable")[:, :_TOP_K]
    hits = ranked == np.asarray(labels)[:, None]
    return {"top1": float(hits[:, 0].mean()), "top5": float(hits.any(axis=1).mean())}


def _keys(outputs: list[dict[str, tf.Tensor]]) -> np.ndarray:
    return np.array([key.decode() for batch in outputs for key in batch["key"].numpy()])


def _unit(h: np.ndarray) -> np.ndarray:
    return h / np.maximum(np.linalg.norm(h, axis=1, keepdims=True), 1e-12)
