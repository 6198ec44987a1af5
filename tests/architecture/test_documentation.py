"""What the documents name is there: tests, functions, configuration fields, files. A renamed one fails here."""

import ast
import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest
from pydantic import BaseModel

from pipeline.config import PipelineConfig
from trainer.config import MethodConfig

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
NONE = "–"
AND_MORE = re.compile(r" and \d+ more$")
WRITTEN_FOR_IT = " (written for it)"


@dataclass(frozen=True)
class Tables:
    """The tables of a Markdown document, their cells by the headings of their columns."""

    rows: tuple[dict[str, str], ...]

    @classmethod
    def of(cls, text):
        rows, header = [], None
        for line in text.splitlines():
            if not line.startswith("|"):
                header = None
                continue
            cells = [cell.strip() for cell in line.strip("|").split("|")]
            if header is None:
                header = cells
            elif not set(line) <= set("|-: "):
                assert len(cells) == len(header), f"a cell too many or too few: {line}"
                rows.append(dict(zip(header, cells, strict=True)))
        return cls(tuple(rows))

    def column(self, heading):
        return [row[heading] for row in self.rows if heading in row]


@cache
def names_in(path):
    """Top-level names of a module, and those in its classes as Class.name."""
    names = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign):
            names |= {target.id for target in node.targets if isinstance(target, ast.Name)}
        elif isinstance(node, ast.AnnAssign):
            names.add(node.target.id)
        elif isinstance(node, ast.ClassDef | ast.FunctionDef):
            names.add(node.name)
            if isinstance(node, ast.ClassDef):
                names |= {f"{node.name}.{inner.name}" for inner in node.body if isinstance(inner, ast.FunctionDef)}
    return frozenset(names)


@cache
def files_of_tests():
    files = {}
    for path in (ROOT / "tests").rglob("test_*.py"):
        assert path.name not in files, f"two files are called {path.name}, and documents name files alone"
        files[path.name] = frozenset(name.rpartition(".")[2] for name in names_in(path)) | names_in(path)
    return files


def unknown_tests(cell):
    """What is wrong with a cell such as `test_a.py: test_one, test_two and 3 more; test_b.py: test_three`."""
    wrong, files = [], files_of_tests()
    for group in cell.split("; "):
        file, colon, listed = group.partition(": ")
        if file not in files:
            wrong.append(f"{file!r} is no test file")
            continue
        names = AND_MORE.sub("", listed.removesuffix(WRITTEN_FOR_IT)).split(", ") if colon else []
        wrong += [
            f"{file} has no {name!r}" for name in names if name not in files[file] or not name.startswith("test_")
        ]
        if not names:
            wrong.append(f"{file}: no test is named")
    return wrong


def unknown_code(cell):
    """What is wrong with a cell of dotted names in backticks."""
    return [f"there is no {name}" for name in quoted(cell) if not is_code(name)] + unquoted(cell)


def is_code(name):
    parts = name.split(".")
    for length in range(len(parts), 0, -1):
        module = ROOT.joinpath(*parts[:length]).with_suffix(".py")
        if module.is_file():
            return length == len(parts) or ".".join(parts[length:]) in names_in(module)
    return False


def unknown_fields(cell):
    """What is wrong with a cell of fields, or sections, of the configuration in backticks."""
    return [f"there is no field {name}" for name in quoted(cell) if not is_field(name)] + unquoted(cell)


def is_field(name):
    return any(has_field(model, name.split(".")) for model in (MethodConfig, PipelineConfig))


def has_field(model, parts):
    first, *others = parts
    if first not in model.model_fields:
        return False
    kind = model.model_fields[first].annotation
    return not others or (isinstance(kind, type) and issubclass(kind, BaseModel) and has_field(kind, others))


def quoted(cell):
    return re.findall(r"`([^`]+)`", cell)


def unquoted(cell):
    rest = re.sub(r"`[^`]+`|, ", "", cell)
    return [] if rest == (NONE if NONE in cell else "") else [f"only names in backticks, or {NONE}: {cell}"]


def broken_links(document):
    prose = re.sub(r"^```.*?^```", "", document.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    targets = re.findall(r"\]\(([^)\s]+)\)", prose)
    relative = [target.partition("#")[0] for target in targets if not re.match(r"[a-z]+:|#", target)]
    return [target for target in relative if not (document.parent / target).exists()]


def tables_of(name):
    return Tables.of((ROOT / "docs" / name).read_text(encoding="utf-8"))


COLUMNS = {"code": unknown_code, "configuration": unknown_fields, "tests": unknown_tests, "caught by": unknown_tests}


@pytest.mark.parametrize(
    ("document", "column", "at_least"),
    [
        ("method.md", "code", 80),
        ("method.md", "configuration", 80),
        ("method.md", "tests", 80),
        ("verification.md", "caught by", 60),
    ],
)
def test_everything_that_a_document_names_is_there(document, column, at_least):
    cells = tables_of(document).column(column)
    assert len(cells) >= at_least, "a table or a heading has gone"
    assert [wrong for cell in cells for wrong in COLUMNS[column](cell)] == []


def test_every_statement_of_the_method_has_code_and_a_test():
    rows = tables_of("method.md").rows
    assert [row for row in rows if NONE in (row["code"], row["tests"]) or not all(row.values())] == []


def test_every_known_mistake_of_the_method_was_planted():
    mistakes = {row["mistake"] for row in tables_of("method.md").rows if "mistake" in row}
    caught = {
        test for cell in tables_of("verification.md").column("caught by") for test in re.findall(r"test_\w+", cell)
    }
    assert len(mistakes) == 15
    for row in tables_of("method.md").rows:
        if "mistake" in row:
            assert caught & (set(re.findall(r"test_\w+", row["tests"])) - set(files_of_tests())), row["mistake"]


def test_every_field_of_the_method_is_in_the_documents_table():
    """Of pretraining, which is the papers' own; the rest repeats its sections."""
    named = {name for cell in tables_of("method.md").column("configuration") for name in quoted(cell)}
    of_our_own = ("pretrain.diagnostics", "pretrain.compute.jit_compile", "pretrain.checkpoint", "pretrain.kept_")
    missing = [
        name for name in leaves(MethodConfig.model_fields["pretrain"].annotation, "pretrain") if name not in named
    ]
    assert [name for name in missing if not name.startswith(of_our_own)] == []


def leaves(model, prefix):
    for name, field in model.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from leaves(kind, f"{prefix}.{name}")
        else:
            yield f"{prefix}.{name}"


def test_readmes_features_name_files_and_fields_that_are_there():
    rows = [row for row in Tables.of((ROOT / "README.md").read_text(encoding="utf-8")).rows if "of the papers" in row]
    names = [name for row in rows for name in quoted(row["here"])]
    assert len(rows) >= 20
    sections = tuple(f"{section}." for section in MethodConfig.model_fields)
    paths = [name for name in names if "/" in name]
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert [name for name in names if name.startswith(sections) and not is_field(name)] == []
    assert [
        name for name in names if name not in paths and not name.startswith((*sections, "python -m trainer"))
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_relative_link_of_a_document_resolves(document):
    assert broken_links(document) == []


@pytest.mark.parametrize(
    ("check", "cell", "found"),
    [
        (unknown_tests, "test_lars.py: test_lars_three_steps_equal_the_orakel", "test_lars.py has no"),
        (unknown_tests, "test_lars.py: test_lars_three_steps_equal…", "test_lars.py has no"),
        (unknown_tests, "test_heads.py: test_lars_three_steps_equal_the_oracle", "test_heads.py has no"),
        (unknown_tests, "test_lars.py", "no test is named"),
        (unknown_tests, "test_lions.py: test_roar", "is no test file"),
        (unknown_tests, "test_lars.py: WEIGHTS", "test_lars.py has no"),
        (unknown_code, "`trainer.lars.LARZ`", "there is no trainer.lars.LARZ"),
        (unknown_code, "`trainer.lars.LARS.update_stem`", "there is no"),
        (unknown_code, "`trainer.lions`", "there is no"),
        (unknown_code, "trainer.lars.LARS", "only names in backticks"),
        (unknown_fields, "`pretrain.temprature`", "there is no field"),
        (unknown_fields, "`pretrain.temperature.tau`", "there is no field"),
        (unknown_fields, "`pretrain.temperature`, and more", "only names in backticks"),
    ],
)
def test_name_that_is_not_there_is_found(check, cell, found):
    assert len(check(cell)) == 1 and found in check(cell)[0]


@pytest.mark.parametrize(
    ("check", "cell"),
    [
        (
            unknown_tests,
            "test_lars.py: test_lars_three_steps_equal_the_oracle and 3 more; "
            "test_losses.py: test_nt_xent_swapped_views_is_unchanged",
        ),
        (unknown_code, "`trainer.lars.LARS.update_step`, `trainer.config.presets.PRESETS`, `trainer.lars`"),
        (unknown_fields, "`pretrain.optimizer`, `distill.student.stage_blocks`, `fractions`"),
        (unknown_fields, NONE),
    ],
)
def test_name_that_is_there_is_accepted(check, cell):
    assert check(cell) == []


def test_link_into_nothing_is_found(tmp_path):
    document = tmp_path / "a.md"
    document.write_text(
        "[one](a.md#part) [two](b.md)\n```\n[x](code)\n```\n [three](https://example.com) [four](#part)"
    )
    assert broken_links(document) == ["b.md"]
