"""The curves of a training: rows in memory, a CSV on disk that is whole at every moment."""

import csv
from dataclasses import dataclass, field

import tensorflow as tf

Metrics = dict[str, float]


@dataclass
class History:
    """Rows of numbers, `step` among them, in the order of the steps."""

    rows: list[Metrics] = field(default_factory=list)

    def write(self, path: str) -> None:
        """Writes the rows as CSV with a header; all of it, so that a resumed run leaves no gap and no double.

        A number that some rows have and others don't is left empty in these.
        """
        # A kill while writing leaves the old file: the new one takes its name when it is whole.
        partial = f"{path}.partial"
        with tf.io.gfile.GFile(partial, "w") as file:
            names = dict.fromkeys(["step", *(name for row in self.rows for name in row)])
            writer = csv.DictWriter(file, fieldnames=list(names))
            writer.writeheader()
            writer.writerows(self.rows)
        tf.io.gfile.rename(partial, path, overwrite=True)

    def read(self, path: str, *, last_step: int) -> None:
        """Takes the rows that a CSV holds up to a step in place of its own; a resumed run makes the others again."""
        with tf.io.gfile.GFile(path) as file:
            rows = [{name: float(value) for name, value in row.items() if value} for row in csv.DictReader(file)]
        self.rows = [row | {"step": int(row["step"])} for row in rows if row["step"] <= last_step]
