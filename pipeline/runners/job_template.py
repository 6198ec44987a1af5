"""The compiled job that `deploy` leaves below the pipeline root, and that the service on Cloud Run starts.

It is the whole request, parameters filled in, so that the service needs neither a configuration nor a compiler.
"""

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_FILE = "deployed/job.json"
# As Vertex AI has it; a name also stands in the filter of a list.
_NAME = re.compile("[a-z0-9][a-z0-9-]{0,127}")


class TemplateError(ValueError):
    """What lies in the template's place is none, or another than was deployed."""


@dataclass(frozen=True)
class Template:
    """A job to start.

    Attributes:
        job: a PipelineJob as Vertex AI's REST interface takes it.
        digest: SHA-256 of the job, hexadecimal.
    """

    job: dict[str, Any]
    digest: str

    @property
    def pipeline(self) -> str:
        """Name of the pipeline that the job runs."""
        return self.job["pipelineSpec"]["pipelineInfo"]["name"]


def uri(pipeline_root: str) -> str:
    """The template's fixed place; another deployment takes the place of the one before."""
    return f"{pipeline_root.rstrip('/')}/{_FILE}"


def make(job: Mapping[str, Any]) -> Template:
    """A template of a job."""
    return Template(dict(job), _digest(job))


def dump(template: Template) -> bytes:
    """A template as its file, the same bytes for the same job."""
    content = {"digest": template.digest, "job": template.job}
    return (json.dumps(content, indent=1, sort_keys=True) + "\n").encode()


def load(content: bytes) -> Template:
    """A template from its file.

    Raises:
        TemplateError: it is none, or its job is not the one that the digest is of.
    """
    try:
        read = json.loads(content)
        template = Template(read["job"], read["digest"])
        digest = _digest(template.job)
        is_named = _NAME.fullmatch(template.pipeline) is not None
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise TemplateError(
            f"no compiled job with its digest ({type(error).__name__}): `make deploy` again"
        ) from error
    if template.digest != digest:
        raise TemplateError(f"its job has the digest {digest}, not {template.digest!r}: `make deploy` again")
    if not is_named:
        raise TemplateError(f"its pipeline is called {template.pipeline!r}: `make deploy` again")
    return template


def _digest(job: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(job, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
