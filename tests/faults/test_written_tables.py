"""Tables that a person may open in a spreadsheet hold numbers: a name of a file or class might be a formula there."""

import csv
import re
from pathlib import Path

import killed_training

ROOT = Path(__file__).resolve().parents[2]
_WRITES_CSV = re.compile(r"csv\.(writer|DictWriter)\(|\.to_csv\(|write_csv\(|savetxt\(")


def test_curves_of_trainings_are_the_only_csv_that_is_written():
    code = [
        path for folder in ("trainer", "components", "pipeline", "infra") for path in ROOT.glob(f"{folder}/**/*.py")
    ]
    writing = {str(path.relative_to(ROOT)) for path in code if _WRITES_CSV.search(path.read_text("utf-8"))}
    assert writing == {"trainer/history.py"}


def test_curves_of_a_training_hold_nothing_but_numbers_under_names_of_our_own(tmp_path):
    _, history = killed_training.run()
    history.write(str(tmp_path / "history.csv"))
    with (tmp_path / "history.csv").open() as file:
        header, *rows = csv.reader(file)
    assert len(rows) == killed_training.TOTAL_STEPS and all(re.fullmatch("[a-z_]+", name) for name in header)
    for row in rows:
        assert all(isinstance(float(cell), float) for cell in row)
