"""The readers on anything at all: they yield candidates and rejects, or refuse in words; found cases are kept."""

import io
import tarfile
import zipfile

import hypothesis
import pytest
from fuzzing import damaged, fuzz
from hypothesis import strategies as st

from components.image_example_gen import archives, examples, labels, names

_LIMIT = 10_000
_READERS = {
    "tar": lambda data: archives.read_tar(lambda: io.BytesIO(data), "a.tar", max_bytes=_LIMIT, want_classes=True),
    "zip": lambda data: archives.read_zip(lambda: io.BytesIO(data), "a.zip", max_bytes=_LIMIT, want_classes=True),
    "tfrecord": lambda data: archives.read_tfrecords(lambda: io.BytesIO(data), "a.tfrecord", max_bytes=_LIMIT),
    "tfrecord.gz": lambda data: archives.read_tfrecords(lambda: io.BytesIO(data), "a.tfrecord.gz", max_bytes=_LIMIT),
}
# What a path on Linux may hold: anything but NUL; with what people and attackers like best.
_NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), min_size=1, max_size=80)
_HOSTILE = (
    "=HYPERLINK(1)",
    "<script>alert(1)</script>",
    "a\nb",
    "\U0001f408" * 10,
    "../../etc/passwd",
    "n" * 4000,
    "\u202egnp.exe",
    "C:\\x.png",
)


def _tar(members):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def _zip(members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return buffer.getvalue()


def _tfrecord(members):
    buffer = io.BytesIO()
    for name, content in members:
        record = examples.serialise({"image": content, "key": name.encode(), "label": 3})
        examples.write_record(buffer, record)
    return buffer.getvalue()


_WRITERS = {"tar": _tar, "zip": _zip, "tfrecord": _tfrecord}
_MEMBERS = [("cat/1.png", b"one" * 50), ("cat/1.cls", b"cat"), ("dog/2.png", b"two" * 300)]


def _check(items):
    for item in items:
        assert isinstance(item, archives.Candidate | names.Reject)
        item.uri.encode()  # printable, or it could not be told of
        if isinstance(item, archives.Candidate):
            assert len(item.data) <= _LIMIT
            item.path.encode()
        else:
            assert item.reason and item.detail


@pytest.mark.parametrize("kind", _READERS)
@fuzz()
@hypothesis.given(data=st.binary(max_size=2000))
def test_any_bytes_for_an_archive_are_candidates_and_rejects(kind, data):
    _check(_READERS[kind](data))


@pytest.mark.parametrize("kind", _WRITERS)
@fuzz()
@hypothesis.given(data=st.data())
def test_damaged_archive_is_candidates_and_rejects(kind, data):
    _check(_READERS[kind](data.draw(damaged(_WRITERS[kind](_MEMBERS)))))


@pytest.mark.parametrize("kind", _WRITERS)
@fuzz()
@hypothesis.given(name=_NAMES)
@hypothesis.example(name=_HOSTILE[0])
@hypothesis.example(name=_HOSTILE[2])
@hypothesis.example(name=_HOSTILE[4])
@hypothesis.example(name=_HOSTILE[5])
@hypothesis.example(name=_HOSTILE[7])
def test_any_name_of_a_member_comes_out_printable(kind, name):
    _check(_READERS[kind](_WRITERS[kind]([(name, b"an image")])))


@pytest.mark.parametrize("name", _HOSTILE)
def test_hostile_name_is_kept_as_it_is_or_refused_for_its_path(name):
    [item] = _READERS["tar"](_tar([(name, b"an image")]))
    if names.climbs_out(name):
        assert item.reason == "unsafe_path"
    else:
        assert (item.path, item.data) == (name, b"an image")


@pytest.mark.parametrize("suffix", ["csv", "tsv", "jsonl"])
@fuzz()
@hypothesis.example(content=b"[" * 100_000, with_header=True)
@hypothesis.example(content=b'{"path": "b", "label": ' + b"1" * 5000 + b"}", with_header=True)
@hypothesis.given(content=st.one_of(st.binary(max_size=300), _NAMES.map(str.encode)), with_header=st.booleans())
def test_any_text_for_a_manifest_is_read_or_refused_in_words(tmp_path, suffix, content, with_header):
    path = tmp_path / f"labels.{suffix}"
    header = {"csv": b"path,label\n", "tsv": b"path\tlabel\n", "jsonl": b'{"path": "a", "label": 1}\n'}[suffix]
    path.write_bytes((header if with_header else b"") + content)
    labels.load_manifest.cache_clear()
    try:
        assert len(labels.load_manifest(str(path))) > 0
    except ValueError as refused:
        assert str(path) in str(refused)
