"""Logs as Cloud Logging reads them: a line of JSON each, on standard output."""

import json
import logging
from typing import Any


class JsonFormatter(logging.Formatter):
    """A record with its level as severity; what is given as `extra={"fields": {...}}` stands beside the message."""

    def format(self, record: logging.LogRecord) -> str:
        """The line; control characters and all that is not ASCII are escaped, so that a record stays one line."""
        message = record.getMessage()
        if record.exc_info:
            message = f"{message}\n{self.formatException(record.exc_info)}"
        content = {"severity": record.levelname, "message": message, **getattr(record, "fields", {})}
        return json.dumps(content, default=str)


# As gunicorn and logging.config.dictConfig take it: gunicorn's own lines in the same form, no lines of access, which
# Cloud Run writes itself.
CONFIGURATION: dict[str, Any] = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"json": {"()": "infra.trigger.logs.JsonFormatter"}},
    "handlers": {"stdout": {"class": "logging.StreamHandler", "formatter": "json", "stream": "ext://sys.stdout"}},
    "root": {"level": "INFO", "handlers": ["stdout"]},
    "loggers": {"gunicorn.error": {"level": "INFO", "handlers": ["stdout"], "propagate": False}},
}
