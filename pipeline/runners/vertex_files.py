"""Small files on Cloud Storage that Vertex AI or the service on Cloud Run reads."""

import requests
from google.api_core.exceptions import RetryError
from google.cloud import storage
from google.cloud.storage.retry import DEFAULT_RETRY

from pipeline.runners.vertex_calls import RETRY, ServiceError

# Also after a connection that was lost, as Cloud Storage's client has it.
STORAGE_RETRY = DEFAULT_RETRY.with_timeout(RETRY.timeout)


def write(files: storage.Client, path: str, content: str | bytes, *, content_type: str = "text/plain") -> None:
    """Writes an object, so that nobody sees a part of it; writing the same once more changes nothing.

    Args:
        files: of the project.
        path: on gs://.
        content: of the object; text as UTF-8.
        content_type: of the object.

    Raises:
        ServiceError: there is no connection.
        google.api_core.exceptions.GoogleAPIError: Cloud Storage refuses, or stays busy.
    """
    try:
        blob = storage.Blob.from_string(path, client=files)
        blob.upload_from_string(content, content_type=content_type, retry=STORAGE_RETRY)
    except (requests.RequestException, RetryError) as error:
        # Cloud Storage's client 3 wraps what it has tried for too long.
        last = error.cause if isinstance(error, RetryError) else error
        if isinstance(last, requests.RequestException):
            raise ServiceError(f"{path}: {last}") from error
        raise
