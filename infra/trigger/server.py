"""gunicorn's settings: `gunicorn --config python:infra.trigger.server`. It listens on PORT by itself."""

from infra.trigger.logs import CONFIGURATION

wsgi_app = "infra.trigger.app:create_app()"
# One process, so that starts can wait for each other; as many threads as Terraform lets requests in at once.
workers = 1
threads = 8
worker_class = "gthread"
# Cloud Run kills ten seconds after it has asked to end.
graceful_timeout = 9
limit_request_line = 1024
limit_request_fields = 64
limit_request_field_size = 8190
# Nobody asks a container on Cloud Run by a socket.
control_socket_disable = True
logconfig_dict = CONFIGURATION
