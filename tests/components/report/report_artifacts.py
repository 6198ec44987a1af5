"""Writes artifact directories as the pipeline's nodes do: real thumbnails, invented numbers."""

import csv
import dataclasses
import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image

from components.drift.findings import find
from components.drift.settings import DriftConfig
from components.drift.two_sample import KernelTest, Shift
from components.push.comparison import Comparison
from components.push.decision import Decision
from components.report.loading import Sources

SAMPLE = Path(__file__).parents[3] / "data" / "cifar10_sample"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
TOP1 = {
    "finetune": {0.01: 0.245, 0.1: 0.452},
    "supervised": {0.01: 0.184, 0.1: 0.389},
    "distill": {0.01: 0.251, 0.1: 0.471},
    "linear": {0.01: 0.238, 0.1: 0.421},
    "random": {0.01: 0.179, 0.1: 0.308},
    "knn": {0.01: 0.221, 0.1: 0.368},
}
SETTINGS = {
    "finetune": {"learning_rate": 0.05, "epochs": 60},
    "supervised": {"learning_rate": 0.1, "epochs": 120, "weight_decay": 0.0005},
    "distill": {"learning_rate": 3.0, "epochs": 40, "temperature": 0.1, "label_weight": 0.25},
    "linear": {"C": 0.1},
    "random": {"C": 1.0},
    "knn": {"k": 20, "tau": 0.07},
}
N_LABELS = {0.01: 40, 0.1: 400}


def write_sources(
    root: Path,
    *,
    classes: tuple[str, ...] = CLASSES,
    n_test: int = 300,
    fractions: tuple[float, ...] = (0.01, 0.1),
    rejects: int = 64,
    file_name: str = "photos/broken.jpg",
    arms: tuple[str, ...] = ("finetune", "supervised"),
) -> Sources:
    """Writes every artifact of a run on the sample under `root`, and says where each is.

    Class names are given to the sample's classes in turn, so that there may be more or fewer than ten.
    """
    images, labels = _test_images(n_test, len(classes))
    random = np.random.default_rng(7)
    runs = tuple(_write_run(root, arm, fraction, labels, classes, random) for arm in arms for fraction in fractions)
    return Sources(
        ingest_summaries=(
            _write_ingest(root / "unlabeled", {"unlabeled": (4100, 4000, 36, 64)}, rejects, file_name),
            _write_ingest(root / "labeled", {"labeled": (4000, 4000, 0, 0), "test": (1000, 1000, 0, 0)}, 0, ""),
        ),
        pretrain_run=_write_pretraining(root / "pretrain", images, random),
        label_fractions=_write_labels(root / "fractions", classes, fractions),
        probe_results=_write_probes(root / "probes", images, labels, classes, fractions, random),
        runs=runs,
        pushed_model=write_decision(root / "pushed"),
        leakage=_write_json(
            root / "leakage",
            "leakage.json",
            {"test": 1000, "training": {"labeled": 4000, "unlabeled": 4000}, "leaks": []},
        ),
        configuration="pretrain:\n  temperature: 0.5\n  batch_size: 256\nlabel_fractions: [0.01, 0.1]\n",
        run_record=_write_record(root / "record.json", fractions),
        code_version="5f2c1ab",
    )


def write_drift(directory: Path, *, key: str = "span-7/odd.png") -> str:
    """Writes what Drift writes of an inverted delivery, and returns its directory."""
    shifts = [Shift("brightness", 0.51, 0.47, 0.13, 0.0021), Shift("blue", 0.35, 0.3, 0.4, 1e-9)]
    kernel = KernelTest(mmd2=0.0312, expected=0.0021, p_value=0.0005)
    found = [dataclasses.asdict(finding) for finding in find(DriftConfig(), kernel, shifts, {"<zebra>": 2})]
    directory.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (40, 20), "red").save(directory / "unusual-000.png")
    content = {
        "champion": 3,
        "false_alarm_rate": 0.01,
        "threshold": 0.005,
        "new": {"images": 1200, "compared": 500},
        "window": {"images": 4000, "compared": 500},
        "embeddings": dataclasses.asdict(kernel),
        "statistics": [dataclasses.asdict(shift) for shift in shifts],
        "unusual": [{"key": key, "file": "unusual-000.png", "times": 2.71, "share": 0.0}],
        "not_compared": None,
        "new_classes": {"<zebra>": 2},
        "findings": found,
    }
    return _write_json(directory, "drift.json", content)


def write_decision(directory: Path, *, blessed: bool = True) -> str:
    """Writes what Push writes, and returns its directory."""
    kept_back = Decision(
        blessed=False,
        reason="Kept back: top-1 0.4100 on 1000 test images against 0.4300 of the champion, version 2.",
        candidate_top1=0.41,
        champion_top1=0.43,
        champion_version="2",
        comparison=_comparison(0.41, (-0.048, 0.008)),
        test_set="0" * 64,
        test_set_changed=False,
    )
    pushed = dataclasses.replace(
        kept_back,
        blessed=True,
        reason="Pushed as version 3: top-1 0.4520 on 1000 test images against 0.4300 of the champion, version 2.",
        candidate_top1=0.452,
        comparison=_comparison(0.452, (-0.006, 0.05)),
        test_set_changed=True,
        pushed="runs/local/serving/3",
        version="3",
    )
    return _write_json(directory, "decision.json", dataclasses.asdict(pushed if blessed else kept_back))


def _comparison(candidate_top1: float, interval: tuple[float, float]) -> Comparison:
    return Comparison(
        n_images=1000,
        won=round(1000 * max(candidate_top1 - 0.43, 0)) + 90,
        lost=round(1000 * max(0.43 - candidate_top1, 0)) + 90,
        candidate_top1=candidate_top1,
        champion_top1=0.43,
        difference=round(candidate_top1 - 0.43, 6),
        candidate_interval=(candidate_top1 - 0.03, candidate_top1 + 0.03),
        champion_interval=(0.4, 0.46),
        difference_interval=interval,
        confidence=0.95,
    )


def _test_images(count: int, n_classes: int) -> tuple[np.ndarray, np.ndarray]:
    with (SAMPLE / "labels.csv").open() as file:
        label_of = {row["key"]: CLASSES.index(row["label"]) for row in csv.DictReader(file)}
    images, labels = [], []
    with tarfile.open(SAMPLE / "test.tar") as archive:
        for position, member in enumerate(archive.getmembers()[:count]):
            images.append(np.asarray(Image.open(io.BytesIO(archive.extractfile(member).read())).convert("RGB")))
            turn = position // len(CLASSES) * len(CLASSES)
            labels.append((label_of[Path(member.name).stem] + turn) % n_classes)
    return np.stack(images), np.array(labels, np.int64)


def _write_ingest(
    directory: Path, sources: dict[str, tuple[int, int, int, int]], rejects: int, file_name: str
) -> str:
    fields = ("read", "kept", "duplicate", "rejected")
    summary = {source: dict(zip(fields, counts, strict=True)) for source, counts in sources.items()}
    reasons = ("truncated", "not_an_image", "zero_bytes", "too_many_pixels")
    lines = [
        json.dumps(
            {
                "source": next(iter(sources)),
                "uri": f"{file_name}?{number}",
                "reason": reasons[number % 7 % 4],
                "detail": f"image file is truncated ({number} bytes not processed)",
            }
        )
        for number in range(rejects)
    ]
    _write_json(directory, "summary.json", summary)
    (directory / "rejects.jsonl").write_text("\n".join(lines))
    return str(directory)


def write_spans(sources: Sources, *, file_name: str = "new.png") -> None:
    """Adds what SpanIngest writes beside the summary of the unlabeled images: two spans."""
    made = {"made": "2026-01-31T03:00:00+00:00"}
    counts = ("read", "kept", "duplicate", "rejected", "images")
    window = [
        {"span": span, **made, **dict(zip(counts, given, strict=True)), "share": 1.0}
        for span, given in ((1, (12, 9, 2, 1, 9)), (2, (3, 1, 2, 0, 1)))
    ]
    told = {
        "decision": {"proceed": True, "new_images": 1, "words": "1 new image, 10 in the window"},
        "notes": [f"2 files were ingested once and are there no more; their images stay, such as {file_name}"],
        "test_images_in_spans": 7,
        "window": window,
        "near_duplicates": {
            "max_bits": 3,
            "compared": 1,
            "found": 1,
            "examples": [[{"span": 2, "file": file_name}, {"span": 1, "file": "week1.tar!old.png"}]],
        },
    }
    _write_json(Path(sources.ingest_summaries[0]), "spans.json", told)


def _write_pretraining(directory: Path, images: np.ndarray, random: np.random.Generator) -> str:
    steps = 1600
    progress = np.arange(steps) / steps
    loss = 3.2 + 2.8 * np.exp(-4 * progress) + random.normal(0, 0.06, steps)
    rate = np.where(progress < 0.1, progress * 10, (1 + np.cos(np.pi * (progress - 0.1) / 0.9)) / 2)
    columns = {
        "step": np.arange(steps),
        "epoch": progress * 100,
        "loss": loss,
        "learning_rate": rate,
        "contrastive_accuracy": 0.75 - 0.7 * np.exp(-5 * progress) + random.normal(0, 0.015, steps),
        "images_per_s": random.normal(900, 30, steps),
    }
    _write_history(directory, columns)
    start = "Pretraining started from the encoder and head of the champion, version 2."
    _write_json(directory, "start.json", {"start": "warm", "words": start})
    _write_json(
        directory, "channels.json", {"channel_mean": [0.491, 0.482, 0.447], "channel_std": [0.25, 0.24, 0.26]}
    )
    original = images[:10]
    views = [np.clip(original[:, :, ::-1] * 0.8 + 20, 0, 255), np.roll(original, 6, axis=2)[..., ::-1]]
    names = ("view_a", "view_b")
    pairs = {name: view.astype(np.uint8) for name, view in zip(names, views, strict=True)}
    np.savez(directory / "views.npz", original=original, **pairs)
    return str(directory)


def _write_labels(directory: Path, classes: tuple[str, ...], fractions: tuple[float, ...]) -> str:
    chosen = {}
    for fraction in fractions:
        each = max(1, round(4000 * fraction / len(classes)))
        keys = {name: [f"train-{position:05d}" for position in range(each)] for name in classes}
        chosen[str(fraction)] = {"counts": dict.fromkeys(classes, each), "keys": keys}
    manifest = {"fractions": chosen, "classes": classes, "n_examples": 4000}
    return _write_json(directory, "manifest.json", manifest)


def _write_probes(
    directory: Path,
    images: np.ndarray,
    labels: np.ndarray,
    classes: tuple[str, ...],
    fractions: tuple[float, ...],
    random: np.random.Generator,
) -> str:
    arms = ("linear", "random", "knn")
    _write_json(directory, "rows.json", [_row(arm, fraction) for arm in arms for fraction in fractions])
    _write_json(directory, "classes.json", classes)
    centres = random.normal(0, 1, (len(classes), 64))
    np.savez(
        directory / "embeddings.npz",
        h=(centres[labels] + random.normal(0, 1.7, (len(labels), 64))).astype(np.float32),
        label_index=labels,
        key=np.array([f"test-{position:05d}" for position in range(len(labels))]),
        image=images,
    )
    return str(directory)


def _write_run(
    root: Path,
    arm: str,
    fraction: float,
    labels: np.ndarray,
    classes: tuple[str, ...],
    random: np.random.Generator,
) -> str:
    directory = root / f"{arm}_{fraction}"
    _write_json(directory, "rows.json", [_row(arm, fraction)])
    _write_json(directory, "classes.json", classes)
    steps = 200
    progress = np.arange(steps) / steps
    rate = SETTINGS[arm]["learning_rate"] * (1 + np.cos(np.pi * progress)) / 2
    loss = 0.3 + 2 * np.exp(-(3 if arm == "supervised" else 5) * progress * (1 + fraction))
    columns = {
        "step": np.arange(steps),
        "epoch": progress * SETTINGS[arm]["epochs"],
        "loss": loss + random.normal(0, 0.03, steps),
        "learning_rate": rate,
    }
    _write_history(directory, columns)
    scores = random.gamma(0.4, 1, (len(labels), len(classes)))
    right = random.random(len(labels)) < TOP1[arm][fraction] * (0.5 + labels / len(classes))
    scores[np.arange(len(labels)), labels] += 20 * right
    np.savez(
        directory / "predictions.npz",
        probabilities=(scores / scores.sum(axis=1, keepdims=True)).astype(np.float32),
        label_index=labels,
        key=np.array([f"test-{position:05d}" for position in range(len(labels))]),
    )
    return str(directory)


def _row(arm: str, fraction: float) -> dict:
    top1 = TOP1[arm][fraction]
    return {
        "arm": arm,
        "label_fraction": fraction,
        "n_labels": N_LABELS[fraction],
        "top1": top1,
        "top5": min(0.99, top1 + 0.42),
        "n_test": 1000,
        "seed": 0,
        "settings": SETTINGS[arm],
    }


def _write_record(path: Path, fractions: tuple[float, ...]) -> str:
    nodes = [
        ("UnlabeledImages", 4.1, True, []),
        ("LabeledImages", 3.9, True, []),
        ("StatisticsGen", 5.2, True, ["LabeledImages"]),
        ("SchemaGen", 0.1, True, ["StatisticsGen"]),
        ("ExampleValidator", 0.2, True, ["StatisticsGen", "SchemaGen"]),
        ("UnlabeledTransform", 14.7, False, ["UnlabeledImages", "SchemaGen"]),
        ("LabeledTransform", 9.2, False, ["LabeledImages", "SchemaGen"]),
        ("Pretrain", 241.0, False, ["UnlabeledTransform"]),
        ("LabelFractionSplit", 2.2, False, ["LabeledTransform"]),
        ("LinearEval", 17.4, False, ["Pretrain", "LabelFractionSplit", "LabeledTransform"]),
    ]
    trainings = []
    for fraction in fractions:
        shared = ["LabeledTransform", "LabelFractionSplit"]
        nodes.append((f"FineTune-{fraction}", 300 * fraction, False, ["Pretrain", *shared]))
        nodes.append((f"Supervised-{fraction}", 420 * fraction, False, shared))
        trainings += [f"FineTune-{fraction}", f"Supervised-{fraction}"]
    candidate = f"FineTune-{fractions[-1]}"
    nodes.append(("Evaluator", 12.5, False, ["LabeledTransform", candidate, "SchemaGen"]))
    nodes.append(("Push", 0.4, False, [candidate, "Evaluator"]))
    record = {
        "started": "2025-01-31T09:30:00+00:00",
        "nodes": [
            {"name": name, "seconds": seconds, "cached": cached, "inputs": inputs}
            for name, seconds, cached, inputs in nodes
        ],
    }
    path.write_text(json.dumps(record))
    return str(path)


def _write_history(directory: Path, columns: dict[str, np.ndarray]) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "history.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _write_json(directory: Path, name: str, value: object) -> str:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / name).write_text(json.dumps(value))
    return str(directory)
