"""Manifests: what they may look like, how images find their rows, what is said of malformed ones."""

import json

import pytest

from components.image_example_gen.labels import load_manifest

_NESTED = ("cat/1.png", "/data/images/cat/1.png")


@pytest.fixture
def manifest(tmp_path):
    def write(content: str | bytes, name: str = "labels.csv"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_manifest(str(path))

    yield write
    load_manifest.cache_clear()


@pytest.mark.parametrize("name_column", ["path", "key", "file", "filename", "image", " Path "])
@pytest.mark.parametrize("label_column", ["label", "class"])
def test_usual_column_names_are_understood(manifest, name_column, label_column):
    found = manifest(f"{name_column},{label_column}\ncat/1.png,cat\n").find(*_NESTED)
    assert (found.row.label, found.row.split, found.by_basename) == ("cat", None, False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("labels.csv", b'\xef\xbb\xbfpath,label,split\r\ncat/1.png,"a, b",val\r\n'),
        ("labels.tsv", b"path\tlabel\tsplit\ncat/1.png\ta, b\tTest\n"),
        (
            "labels.jsonl",
            json.dumps({"path": "cat/1.png", "label": "a, b", "split": "validation"}).encode() + b"\n\n",
        ),
    ],
)
def test_each_format_of_manifest_is_read(manifest, name, content):
    found = manifest(content, name).find(*_NESTED)
    assert (found.row.label, found.row.split) == ("a, b", "test")


@pytest.mark.parametrize("row", ["cat/1.png", "cat/1", "./cat/1.png", "cat\\1.png", "/data/images/cat/1.png"])
def test_a_path_a_key_and_a_full_path_name_an_image_exactly(manifest, row):
    assert not manifest(f"path,label\n{row},x\n").find(*_NESTED).by_basename


@pytest.mark.parametrize("row", ["1.png", "1"])
def test_a_base_name_names_an_image_loosely(manifest, row):
    assert manifest(f"path,label\n{row},x\n").find(*_NESTED).by_basename


def test_paths_may_be_relative_to_the_manifest(manifest, tmp_path):
    found = manifest("path,label\nimages/cat/1.png,x\n").find("cat/1.png", f"{tmp_path}/images/cat/1.png")
    assert found.row.label == "x" and not found.by_basename


def test_an_image_that_no_row_names_finds_none(manifest):
    assert manifest("path,label\ndog/1.png,x\n").find(*_NESTED) is None


def test_an_integer_label_in_jsonl_is_a_class_name(manifest):
    assert manifest('{"key": "cat/1", "label": 0}\n', "labels.jsonl").find(*_NESTED).row.label == "0"


@pytest.mark.parametrize(
    ("name", "content", "line", "remedy"),
    [
        ("labels.csv", "path,kind\n1,x\n", 2, "needs a value in a column label|class"),
        ("labels.csv", "where,label\n1,x\n", 2, "needs a value in a column path|key"),
        ("labels.csv", "path,label\n1,x\n2\n", 3, "needs a value"),
        ("labels.csv", "path,label\n1,x,y\n", 2, "Quote values"),
        ("labels.csv", "path,label,split\n1,x,dev2\n", 2, "Use one of train, test, val"),
        ("labels.csv", "path,label\n1,x\n1,y\n", 3, "Keep one of them"),
        ("labels.csv", b"path,label\n1,caf\xe9\n", 2, "Save the manifest as UTF-8"),
        ("labels.jsonl", '{"path": "1", "label": "x"}\n{"path": \n', 2, "Write one object a line"),
        ("labels.jsonl", "[1, 2]\n", 1, "Write one object a line"),
    ],
)
def test_a_malformed_manifest_is_refused_with_file_line_and_remedy(manifest, tmp_path, name, content, line, remedy):
    with pytest.raises(ValueError, match="line") as caught:
        manifest(content, name)
    assert f"{tmp_path / name}, line {line}:" in str(caught.value)
    assert remedy in str(caught.value)


def test_a_manifest_without_rows_is_refused(manifest):
    with pytest.raises(ValueError, match="has no rows"):
        manifest("path,label\n")
