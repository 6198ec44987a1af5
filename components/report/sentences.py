"""The result in words, in whichever direction it fell."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from components.report import analysis
from components.report.content import Estimate, Row, percent


@dataclass(frozen=True, kw_only=True)
class Headline:
    """The result in one sentence, and the sentences that qualify it."""

    title: str
    details: tuple[str, ...]


# Settings that readers know by a symbol or a shorter name.
SETTING_NAMES = {
    "learning_rate": "learning rate",
    "tau": "τ",
    "temperature": "τ",
    "weight_decay": "weight decay",
    "label_weight": "label weight",
}


def headline(rows: Sequence[Row]) -> Headline:
    """Says what pretraining brought on the largest part of the labels short of all, and how sure that is.

    Fine-tuning is held against the same network from scratch; without such a pair, the linear probe against
    the same probe of an untrained encoder. A distilled network is held against its teacher.
    """
    pairs = analysis.compare_arms(rows, "finetune", "supervised")
    probes = analysis.compare_arms(rows, "linear", "random")
    details = []
    if pairs:
        main = _main(pairs)
        title = (
            f"{_on(main)} the pretrained network reaches {_rate(main.left)}, "
            f"the same network from scratch {_rate(main.right)}."
        )
        details += [_certainty(main), *(_other(pair) for pair in pairs if pair is not main)]
    elif probes:
        main = _main(probes)
        title = (
            f"{_on(main)} a linear probe of the pretrained encoder reaches {_rate(main.left)}, "
            f"of an untrained one {_rate(main.right)}."
        )
        return Headline(title=title, details=(_certainty(main),))
    else:
        title = "This run has no two arms on the same labels to compare."
    if taught := analysis.compare_arms(rows, "distill", "finetune"):
        details.append(_taught(_main(taught)))
    if probes:
        main = _main(probes)
        details.append(
            f"{_on(main)} a linear probe of the frozen encoder reaches {_rate(main.left)}, "
            f"of an untrained encoder {_rate(main.right)} ({_signed(main.difference)} points)."
        )
    return Headline(title=title, details=tuple(details))


def settings(row: Row) -> str:
    """Writes a row's settings in a line, e.g. 'k 20 · τ 0.07 · seed 0'."""
    named = [f"{SETTING_NAMES.get(name, name)} {_value(value)}" for name, value in row.settings.items()]
    return " · ".join([*named, f"seed {row.seed}"])


def champion(values: Mapping[str, object]) -> str:
    """Writes what is known of the champion in a line; empty where there is none."""
    return " · ".join(f"{name} {_value(value)}" for name, value in values.items())


def estimate(found: Estimate, *, is_difference: bool = False) -> str:
    """Writes an estimate in percent, or a difference in points, with its interval: '45.2 (42.1 to 48.3)'."""
    write = _signed if is_difference else lambda share: f"{100 * share:.1f}"
    return f"{write(found.value)} ({write(found.low)} to {write(found.high)})"


def interval(row: Row) -> str:
    """Writes the 95% Wilson interval of a row's top-1 accuracy, in percent."""
    low, high = analysis.wilson_interval(row.top1, row.n_test)
    return f"{100 * low:.1f}–{100 * high:.1f}"


def moment(iso: str) -> str:
    """Writes an ISO 8601 time to the minute, e.g. '2025-01-31 09:30 UTC'; any other text stays as it is."""
    try:
        parsed = datetime.fromisoformat(iso.replace("Z", "+00:00"))
    except ValueError:
        return iso
    return f"{parsed:%Y-%m-%d %H:%M} {parsed.tzname() or ''}".strip()


def _main(pairs: Sequence[analysis.Comparison]) -> analysis.Comparison:
    partial = [pair for pair in pairs if pair.left.label_fraction < 1]
    return (partial or pairs)[-1]


def _on(pair: analysis.Comparison) -> str:
    if pair.left.label_fraction == 1:
        return f"On all labels ({pair.left.n_labels:,} images)"
    return f"On {percent(pair.left.label_fraction)} of the labels ({pair.left.n_labels:,} images)"


def _certainty(pair: analysis.Comparison) -> str:
    span = f"(95% interval {_signed(pair.low)} to {_signed(pair.high)}, on {pair.left.n_test:,} test images)"
    if not pair.is_certain:
        return f"The difference of {_signed(pair.difference)} points {span} may be chance."
    verdict = "helps" if pair.difference > 0 else "harms"
    return f"Pretraining {verdict} by {abs(100 * pair.difference):.1f} points {span}."


def _other(pair: analysis.Comparison) -> str:
    doubt = "" if pair.is_certain else ", which may be chance"
    return f"{_on(pair)}: {_rate(pair.left)} against {_rate(pair.right)} ({_signed(pair.difference)} points{doubt})."


def _taught(pair: analysis.Comparison) -> str:
    doubt = "" if pair.is_certain else ", which may be chance"
    return (
        f"{_on(pair)} the network distilled on the unlabeled images reaches {_rate(pair.left)}, its fine-tuned "
        f"teacher {_rate(pair.right)} ({_signed(pair.difference)} points{doubt})."
    )


def _rate(row: Row) -> str:
    return f"{100 * row.top1:.1f}%"


def _signed(share: float) -> str:
    return f"{100 * share:+.1f}".replace("-", "−")


def _value(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)
