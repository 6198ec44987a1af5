"""An object store for Beam, `mem://`: names and bytes, and nothing that the local disk has beyond them."""

import io
import posixpath

from apache_beam.io.filesystem import BeamIOError, CompressedFile, CompressionTypes, FileMetadata, FileSystem

OBJECTS: dict[str, bytes] = {}


class _Upload(io.BytesIO):
    """An object that appears when it is closed, and not before."""

    def __init__(self, path: str) -> None:
        super().__init__()
        self._path = path

    def close(self) -> None:
        if not self.closed:
            OBJECTS[self._path] = self.getvalue()
        super().close()


class MemoryFileSystem(FileSystem):
    """See Beam's FileSystem for what each method promises."""

    @classmethod
    def scheme(cls):
        return "mem"

    def join(self, basepath, *paths):
        return posixpath.join(basepath, *paths)

    def split(self, path):
        return posixpath.split(path)

    def mkdirs(self, path):
        pass

    def has_dirs(self):
        return False

    def _list(self, dir_or_prefix):
        return [self.metadata(path) for path in sorted(OBJECTS) if path.startswith(dir_or_prefix)]

    def create(self, path, mime_type="application/octet-stream", compression_type=CompressionTypes.AUTO):
        return self._compressed(_Upload(path), path, compression_type)

    def open(self, path, mime_type="application/octet-stream", compression_type=CompressionTypes.AUTO):
        return self._compressed(io.BytesIO(self._bytes(path)), path, compression_type)

    def _compressed(self, file, path, compression_type):
        compression_type = self._get_compression_type(path, compression_type)
        plain = compression_type == CompressionTypes.UNCOMPRESSED
        return file if plain else CompressedFile(file, compression_type)

    def copy(self, source_file_names, destination_file_names):
        for source, destination in zip(source_file_names, destination_file_names, strict=True):
            OBJECTS[destination] = self._bytes(source)

    def rename(self, source_file_names, destination_file_names):
        self.copy(source_file_names, destination_file_names)
        self.delete(source_file_names)

    def exists(self, path):
        return path in OBJECTS

    def size(self, path):
        return len(self._bytes(path))

    def last_updated(self, path):
        return 0

    def checksum(self, path):
        return str(hash(self._bytes(path)))

    def metadata(self, path):
        return FileMetadata(path, self.size(path), self.last_updated(path))

    def delete(self, paths):
        for path in paths:
            del OBJECTS[path]

    def _bytes(self, path):
        if path not in OBJECTS:
            raise BeamIOError(f"no such object: {path}")
        return OBJECTS[path]
