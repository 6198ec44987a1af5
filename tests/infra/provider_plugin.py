"""A provider for Terraform that knows what `google_provider.json` says and does nothing: `validate` needs no more.

Terraform starts it as a process, reads its address from its first line, takes the schema from it and asks whether the
settings of each resource are good. It says so to all: by then Terraform has compared names and blocks with the schema
and evaluated every expression. Attributes may have any type. What is spoken is version 5 of Terraform's plugin
protocol, docs/plugin-protocol/tfplugin5.proto in its repository, whose messages are few enough to be written by hand.
"""

import json
import threading
from concurrent import futures
from pathlib import Path
from typing import Any

import grpc

_SCHEMA = Path(__file__).with_name("google_provider.json")
# What the provider itself is given in `envs`; CDKTF has it apart from the resources.
_OF_THE_PROVIDER = ("project", "region", "billing_project", "user_project_override")
_ANY_TYPE = '"dynamic"'
_AS_A_LIST = 2


def _field(number: int, value: int | str | bytes) -> bytes:
    """A field of a protobuf message."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    content = value.encode() if isinstance(value, str) else value
    return _varint(number << 3 | 2) + _varint(len(content)) + content


def _varint(value: int) -> bytes:
    low, rest = value & 127, value >> 7
    return bytes([low | 128]) + _varint(rest) if rest else bytes([low])


def _schema(arguments: dict[str, Any], told: set[str]) -> bytes:
    """A Schema: its block, with what a resource takes and what it tells."""
    computed = [_field(2, _attribute(name, computed=1)) for name in told - set(arguments)]
    return _field(2, _block(arguments) + b"".join(computed))


def _block(arguments: dict[str, Any]) -> bytes:
    parts = []
    for name, one in arguments.items():
        if "block" in one:
            nested = _field(1, name) + _field(2, _block(one["block"])) + _field(3, _AS_A_LIST)
            parts.append(_field(3, nested + _field(4, int(one["required"]))))
        else:
            parts.append(_field(2, _attribute(name, required=one["required"], optional=not one["required"])))
    return b"".join(parts)


def _attribute(name: str, *, required: bool = False, optional: bool = False, computed: bool = False) -> bytes:
    kind = _field(4, int(required)) + _field(5, int(optional)) + _field(6, int(computed))
    return _field(1, name) + _field(2, _ANY_TYPE) + kind


def _whole_schema() -> bytes:
    """A GetProviderSchema.Response."""
    answer = _field(1, _schema({name: {"required": False} for name in _OF_THE_PROVIDER}, set()))
    known = json.loads(_SCHEMA.read_text())
    for kind in set(known) - {"version"}:
        schema = _schema(known[kind]["arguments"], {*known[kind]["told"], "id"})
        number, name = (3, kind.removeprefix("data.")) if kind.startswith("data.") else (2, kind)
        answer += _field(number, _field(1, name) + _field(2, schema))
    return answer


def main() -> None:
    ended = threading.Event()

    def end(_request: bytes, _context: grpc.ServicerContext) -> bytes:
        ended.set()
        return b""

    answers = {
        "tfplugin5.Provider": {
            "GetSchema": lambda _request, _context: _whole_schema(),
            # As it was given: the field of the answer is that of the request.
            "PrepareProviderConfig": lambda request, _context: request,
            "ValidateResourceTypeConfig": lambda _request, _context: b"",
            "ValidateDataSourceConfig": lambda _request, _context: b"",
        },
        "plugin.GRPCController": {"Shutdown": end},
    }
    server = grpc.server(futures.ThreadPoolExecutor())
    server.add_generic_rpc_handlers(
        [
            grpc.method_handlers_generic_handler(
                service, {name: grpc.unary_unary_rpc_method_handler(answer) for name, answer in methods.items()}
            )
            for service, methods in answers.items()
        ]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"1|5|tcp|127.0.0.1:{port}|grpc", flush=True)  # noqa: T201 - by this line it is found
    ended.wait()
    server.stop(grace=None)


if __name__ == "__main__":
    main()
