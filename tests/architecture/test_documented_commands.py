"""What the documents tell people to type: targets that there are, variables that they read, settings that load."""

import re
from functools import cache
from pathlib import Path

import pytest

from pipeline.config import load_config

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = ROOT / "infra" / "vertex.example.yaml"
FENCE = re.compile(r"^ *```(\w*)\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
LEFT_OUT = "…"

each_document = pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)


@cache
def makefile():
    """Of each target what it needs and does, and of each variable what it is."""
    text = re.sub(r"\\\n\s*", "", (ROOT / "Makefile").read_text(encoding="utf-8"))
    text = re.sub(r" *##.*", "", text)
    targets = dict(re.findall(r"^([a-z][a-z-]*):((?:.*\n)(?:\t.*\n)*)", text, re.MULTILINE))
    variables = dict(re.findall(r"^([A-Za-z_]\w*) :?= (.*)$", text, re.MULTILINE))
    return targets, variables


@cache
def read_by(target):
    """Names of all variables that a target uses, by way of others too."""
    targets, variables = makefile()
    found, texts = set(), [targets[target]]
    while texts:
        new = set(re.findall(r"\b[A-Za-z_]\w*\b", texts.pop())) - found
        found |= new
        texts += [variables[name] for name in new if name in variables and name != "GIVEN"]
    return found & set(variables["GIVEN"].split())


def code(text):
    """What a document shows as code: the lines of its blocks, without comments, and what stands in backticks."""
    blocks = [block.replace("\\\n", " ") for _, block in FENCE.findall(text)]
    lines = [re.sub(r"(^|\s)#.*", "", line) for block in blocks for line in block.splitlines()]
    return lines + [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", FENCE.sub("", text))]


def commands(text):
    """(target, its arguments) of each call of make."""
    return [
        call for piece in code(text) for call in re.findall(r"\bmake ([a-z][a-z-]*)((?:\"[^\"]*\"|[^;&])*)", piece)
    ]


def faults(text):
    targets, found = makefile()[0], []
    for target, arguments in commands(text):
        if target not in targets:
            found.append(f"there is no target {target}")
            continue
        given = set(re.findall(r"(?<![\w.])([A-Z][A-Z_]*)=", re.sub(r"\"[^\"]*\"", "", arguments)))
        found += [f"{target} reads no {name}" for name in sorted(given - read_by(target))]
    return found


def settings(text):
    """(whether beside the example, the settings) of each SET; what is left out is left out."""
    for _, arguments in commands(text):
        for quoted, plain in re.findall(r"\bSET=(?:\"([^\"]*)\"|([^\s\]]+))", arguments):
            given = [word for word in (quoted or plain).split() if word != LEFT_OUT]
            beside = bool(re.search(r"CONFIG=(my\.yaml|infra/vertex\.example\.yaml)", arguments))
            yield beside, [word.replace("$seed", "1") for word in given]


@each_document
def test_every_target_and_variable_of_make_that_a_document_names_is_there(document):
    assert faults(document.read_text(encoding="utf-8")) == []


@each_document
def test_every_setting_that_a_document_gives_loads(document):
    for beside_the_example, given in settings(document.read_text(encoding="utf-8")):
        load_config(str(EXAMPLE) if beside_the_example else None, given)


@each_document
def test_every_configuration_that_a_document_shows_loads(document, tmp_path):
    for language, block in FENCE.findall(document.read_text(encoding="utf-8")):
        if language == "yaml":
            (tmp_path / "shown.yaml").write_text(block)
            load_config(str(tmp_path / "shown.yaml"))


def test_commands_of_the_guide_are_found():
    text = (ROOT / "docs" / "vertex.md").read_text(encoding="utf-8")
    assert {"rehearse", "preflight", "submit", "deploy", "embeddings", "schedules"} <= {
        name for name, _ in commands(text)
    }
    assert max(len(given) for _, given in settings(text)) > 10


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("`make submitt CONFIG=c`", ["there is no target submitt"]),
        ("`make compile\nCONFIG=c WAIT=1`", ["compile reads no WAIT"]),
        ("```sh\nmake chaos KILLS=3 \\\n  OUTPUT=o   # make no FUSS=1\n```", ["chaos reads no OUTPUT"]),
        ("`make test STACK=1.16 && make lint SEED=1`", ["lint reads no SEED"]),
        ('`make local-run SET="a=B=1"` make nothing', []),
    ],
)
def test_command_that_cannot_be_is_found(text, found):
    assert faults(text) == found
