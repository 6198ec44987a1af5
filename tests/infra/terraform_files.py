"""What can be said of Terraform's files without Terraform: that they parse, that names exist, who gets which role.

What a resource takes and tells stands in `google_provider.json`, see `google_provider.py`; which values it takes only
`terraform plan` can tell.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import hcl2
from hcl2 import SerializationOptions

_VALUES = SerializationOptions(strip_string_quotes=True, explicit_blocks=False, with_comments=False)
# What a module block says to Terraform rather than to the module.
_META_ARGUMENTS = {"source", "version", "count", "for_each", "depends_on", "providers"}
_PRIMITIVE_ROLES = ("roles/owner", "roles/editor", "roles/viewer")
_EVERYBODY = ("allUsers", "allAuthenticatedUsers")
# What every resource takes, as Terraform itself has it.
_OF_ANY_RESOURCE = {"count", "for_each", "depends_on", "lifecycle", "provider", "provisioner", "connection"}
_RESOURCE = r"(?<![\w./-])((?:data\.)?google_\w+\.\w+)"
_SCHEMA = Path(__file__).with_name("google_provider.json")


@dataclass(frozen=True)
class Folder:
    """The blocks of all files of a folder, merged; a module is a folder.

    Attributes:
        path: the folder.
        variables: by name, the block of each.
        outputs: by name, the block of each.
        modules: by name, the block of each.
        resources: by "type.name", the block of each; those of `data` too, as "data.type.name".
        locals: by name, the value of each.
        everything: all blocks.
    """

    path: Path
    variables: dict[str, dict[str, Any]]
    outputs: dict[str, dict[str, Any]]
    modules: dict[str, dict[str, Any]]
    resources: dict[str, dict[str, Any]]
    locals: dict[str, Any]
    everything: list[dict[str, Any]]


def read(path: Path) -> Folder:
    """Parses the .tf files of a folder.

    Raises:
        lark.exceptions.LarkError: a file is no HCL.
    """
    files = [hcl2.loads(file.read_text(), serialization_options=_VALUES) for file in sorted(path.glob("*.tf"))]

    def blocks(kind: str) -> dict[str, Any]:
        return {name: body for file in files for block in file.get(kind, []) for name, body in block.items()}

    resources = {}
    for kind, prefix in (("resource", ""), ("data", "data.")):
        for file in files:
            for block in file.get(kind, []):
                for of_type, named in block.items():
                    resources |= {f"{prefix}{of_type}.{name}": body for name, body in named.items()}
    return Folder(
        path, blocks("variable"), blocks("output"), blocks("module"), resources, blocks("locals"), everything=files
    )


def faults(root: Path) -> list[str]:
    """Everything that is wrong below a folder, one sentence each, none if all is well."""
    folders = [read(path) for path in sorted({file.parent for file in root.rglob("*.tf")})]
    return [
        f"{folder.path.relative_to(root)}: {fault}"
        for folder in folders
        for check in (
            _undescribed,
            _unknown_names,
            _unknown_members,
            _wrong_arguments,
            _wrong_settings,
            _valueless,
            _loose_buckets,
            _unreasoned_roles,
        )
        for fault in check(folder)
    ]


def granted_roles(root: Path) -> dict[str, set[str]]:
    """Every role that is named below a folder, with the folders that name it."""
    granted: dict[str, set[str]] = {}
    for path in {file.parent for file in root.rglob("*.tf")}:
        for value in _strings(read(path).everything):
            if value.startswith("roles/"):
                granted.setdefault(value, set()).add(path.name)
    return granted


def _strings(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from (key, *_strings(inner))
    elif isinstance(value, list):
        for inner in value:
            yield from _strings(inner)


def _expressions(folder: Folder) -> str:
    """All that Terraform evaluates; text outside of ${...} is none of it."""
    return "\n".join(value[value.index("${") :] for value in _strings(folder.everything) if "${" in value)


def _undescribed(folder: Folder) -> Iterator[str]:
    for name, variable in folder.variables.items():
        yield from (f"variable {name} has no {part}" for part in ("description", "type") if part not in variable)
    yield from (f"output {name} has no description" for name, o in folder.outputs.items() if "description" not in o)


def _unknown_names(folder: Folder) -> Iterator[str]:
    expressions = _expressions(folder)
    used_variables = set(re.findall(r"\bvar\.(\w+)", expressions))
    yield from (f"var.{name} is not declared" for name in used_variables - set(folder.variables))
    yield from (f"variable {name} is used nowhere" for name in set(folder.variables) - used_variables)
    yield from (
        f"local.{name} is not declared"
        for name in set(re.findall(r"\blocal\.(\w+)", expressions)) - set(folder.locals)
    )
    named = set(re.findall(_RESOURCE, expressions))
    yield from (f"{name} is not declared" for name in named - set(folder.resources))
    outputs = cache(lambda module: set(read(_source(folder, module)).outputs))
    for module, output in set(re.findall(r"\bmodule\.(\w+)(?:\[[^]]*\])?(?:\.(\w+))?", expressions)):
        if module not in folder.modules:
            yield f"module.{module} is not declared"
        elif output and output not in outputs(module):
            yield f"module.{module} has no output {output}"


def _source(folder: Folder, module: str) -> Path:
    return folder.path / folder.modules[module]["source"]


def _wrong_arguments(folder: Folder) -> Iterator[str]:
    for module, block in folder.modules.items():
        if not list(_source(folder, module).glob("*.tf")):
            yield f"module {module} is in {block['source']}, where nothing is"
            continue
        variables = read(_source(folder, module)).variables
        required = {name for name, variable in variables.items() if "default" not in variable}
        yield from (f"module {module} takes no {name}" for name in set(block) - _META_ARGUMENTS - set(variables))
        yield from (f"module {module} needs {name}" for name in required - set(block))


@cache
def provider() -> dict[str, Any]:
    """The provider's version, and by resource its `arguments` and what else is `told` of it."""
    return json.loads(_SCHEMA.read_text())


def _wrong_settings(folder: Folder) -> Iterator[str]:
    """What a resource is given against what the provider says that it takes."""
    for name, block in folder.resources.items():
        kind = name.rpartition(".")[0]
        if kind not in provider():
            yield f"{name} is of a kind that google_provider.json lacks"
            continue
        given = {key: value for key, value in block.items() if key not in _OF_ANY_RESOURCE}
        yield from _of_a_block(name, given, provider()[kind]["arguments"])


def _of_a_block(name: str, given: dict[str, Any], takes: dict[str, Any]) -> Iterator[str]:
    dynamic = [item for block in given.get("dynamic", []) for item in block.items()]
    blocks = [(key, value) for key, value in given.items() if key != "dynamic"]
    blocks += [(key, block["content"]) for key, block in dynamic]
    names = {key for key, _ in blocks}
    yield from (f"{name} takes no {key}" for key in sorted(names - set(takes)))
    yield from (f"{name} needs {key}" for key, one in takes.items() if one["required"] and key not in names)
    for key, value in blocks:
        within = takes.get(key, {}).get("block")
        if within and not isinstance(value, list):
            yield f"{name}: {key} is a block"
        elif within:
            for inner in value:
                yield from _of_a_block(f"{name}.{key}", inner, within)


def _valueless(folder: Folder) -> Iterator[str]:
    """A variable of a container that is given none: the service would find it empty."""
    for name, block in folder.resources.items():
        for variable in _blocks(block, "env"):
            if not ({"value", "value_source"} & set(variable)) or variable.get("value") == "":
                yield f"{name}: its variable {variable.get('name')} has no value"


def _blocks(value: Any, kind: str) -> Iterator[dict[str, Any]]:
    """All blocks of a kind within a value."""
    if isinstance(value, list):
        for inner in value:
            yield from _blocks(inner, kind)
    elif isinstance(value, dict):
        for key, inner in value.items():
            if key == kind and isinstance(inner, list):
                yield from inner
            yield from _blocks(inner, kind)


def _unknown_members(folder: Folder) -> Iterator[str]:
    """What is read of a resource, of a local value or of what `for_each` walks over."""
    expressions = _expressions(folder)
    for name, member in set(re.findall(_RESOURCE + r"(?:\[[^]]*\])?\.(\w+)", expressions)):
        known = provider().get(name.rpartition(".")[0])
        if name in folder.resources and known and member not in {"id", *known["arguments"], *known["told"]}:
            yield f"{name} tells no {member}"
    for path in set(re.findall(r"\blocal((?:\.\w+)+)", expressions)):
        value: Any = folder.locals
        for step in path[1:].split("."):
            if isinstance(value, dict) and step not in value:
                yield f"local{path} is not declared"
                break
            value = value.get(step) if isinstance(value, dict) else None
    for name, block in folder.resources.items():
        walked = re.fullmatch(r"\$\{local\.(\w+)\}", str(block.get("for_each", "")))
        items = folder.locals.get(walked[1]) if walked else None
        if isinstance(items, dict) and all(isinstance(item, dict) for item in items.values()):
            read_of = {field for text in _strings(block) for field in re.findall(r"\beach\.value\.(\w+)", text)}
            for key, item in items.items():
                yield from (f"{name}: {walked[1]}.{key} has no {field}" for field in sorted(read_of - set(item)))


def _loose_buckets(folder: Folder) -> Iterator[str]:
    for name, bucket in folder.resources.items():
        if not name.startswith("google_storage_bucket."):
            continue
        if bucket.get("uniform_bucket_level_access") is not True:
            yield f"{name} has no uniform access"
        if bucket.get("public_access_prevention") != "enforced":
            yield f"{name} may become public"
        if [versioning.get("enabled") for versioning in bucket.get("versioning", [])] != [True]:
            yield f"{name} keeps no versions"
        if not bucket.get("lifecycle_rule"):
            yield f"{name} has no lifecycle"


def _unreasoned_roles(folder: Folder) -> Iterator[str]:
    """A role is named beside its reason, in `locals`; what grants it takes it from there."""
    reasoned = {grant["role"] for grant in _grants(folder.locals) if len(str(grant.get("reason", ""))) > 10}
    named = {value for value in _strings(folder.everything) if value.startswith("roles/")}
    yield from (f"{role} is granted without a reason" for role in named - reasoned)
    yield from (f"{role} is a primitive role" for role in named if role in _PRIMITIVE_ROLES)
    for name, resource in folder.resources.items():
        kind = name.split(".")[0]
        if re.search(r"_iam_(binding|policy)$", kind):
            yield f"{name} takes the role from all others: use {re.sub('binding|policy', 'member', kind)}"
        if kind.endswith("_iam_member") and not re.fullmatch(
            r"\$\{(each\.value|local\.\w+(\.\w+)*)\.role\}", str(resource["role"])
        ):
            yield f"{name} takes its role from no list of reasons"
        if any(everybody in str(resource.get("member", "")) for everybody in _EVERYBODY):
            yield f"{name} is for everybody"


def _grants(value: Any) -> Iterator[dict[str, Any]]:
    if isinstance(value, dict):
        if "role" in value:
            yield value
        for inner in value.values():
            yield from _grants(inner)
