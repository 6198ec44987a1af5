"""What Terraform's provider for Google takes and tells, read from CDKTF's classes, which are made from its schema.

There is no provider without Terraform; but CDKTF's package of it is in npm's registry, and has for each resource its
arguments and what can be read of it. What this project uses of that is kept in `google_provider.json`. For a resource
or a version that it lacks:

    npm pack @cdktf/provider-google@14.13.1
    python tests/infra/google_provider.py cdktf-provider-google-14.13.1.tgz
"""

import json
import re
import sys
import tarfile
from pathlib import Path
from typing import Any

from terraform_files import read

SCHEMA = Path(__file__).with_name("google_provider.json")
_TERRAFORM = Path(__file__).parents[2] / "infra" / "terraform"
_INTERFACE = re.compile(r"^export interface (\w+) (extends [\w.]+ )?\{\n(.*?)^\}", re.MULTILINE | re.DOTALL)
_ARGUMENT = re.compile(r"#(\w+) \w+#\w+\}\n(?:    \*[^\n]*\n)*    \*/\n    readonly \w+(\??): (\w*)")
_READ = re.compile(r"\.get\w+Attribute\('(\w+)'\)|OutputReference\(this, \"(\w+)\"|(?:List|Map)\(this, \"(\w+)\"")


def used(root: Path) -> set[str]:
    """Types of all resources below a folder, those of `data` with that before them."""
    folders = {file.parent for file in root.rglob("*.tf")}
    return {name.rpartition(".")[0] for folder in folders for name in read(folder).resources}


def schema(package: Path) -> dict[str, Any]:
    """The version, and of each used resource its arguments, within blocks too, and what can be read of it."""
    with tarfile.open(package) as archive:

        def text(name: str) -> str:
            return archive.extractfile(f"package/{name}").read().decode()

        found = {"version": json.loads(text("package.json"))["cdktf"]["provider"]["version"]}
        for kind in sorted(used(_TERRAFORM)):
            folder = kind.removeprefix("google_").replace(".", "-").replace("_", "-")
            found[kind] = _resource(text(f"lib/{folder}/index.d.ts"), text(f"lib/{folder}/index.js"))
    return found


def _resource(types: str, code: str) -> dict[str, Any]:
    found = _INTERFACE.findall(types)
    interfaces = {name: _ARGUMENT.findall(body) for name, _, body in found}
    [config] = [name for name, base, _ in found if base]
    main = code[code.rindex("extends cdktf.Terraform") :]
    readable = {name for groups in _READ.findall(main) for name in groups if name}
    arguments = _arguments(config, interfaces)
    return {"arguments": arguments, "told": sorted(readable - set(arguments))}


def _arguments(interface: str, interfaces: dict[str, list[tuple[str, str, str]]]) -> dict[str, Any]:
    return {
        name: {"required": not optional} | ({"block": _arguments(of, interfaces)} if of in interfaces else {})
        for name, optional, of in interfaces[interface]
    }


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(schema(Path(sys.argv[1])), indent=1, sort_keys=True) + "\n")
