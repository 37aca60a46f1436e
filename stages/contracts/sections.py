"""params.yaml: reading it, and checking a section of it against the typed model of the room that owns it."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from stages.contracts.errors import StageError

PARAMS = Path("params.yaml")

Profile = Literal["demo", "local", "full"]
Protocol = Literal["case", "published", "kfold", "image"]
Source = Literal["idc", "breakhis"]
Params = Mapping[str, Any]
T = TypeVar("T")


class Section(BaseModel):
    """A part of params.yaml: immutable, and an unknown key is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def read_params(path: Path = PARAMS) -> Params:
    """The whole of params.yaml as plain values. Raises StageError naming the line where it is no YAML mapping."""
    try:
        params = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise StageError(f"{path} is missing: run from the root of the repository") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise StageError(f"{path} cannot be read as YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise StageError(f"{path} holds {type(params).__name__}, expected a mapping of sections")
    return params


def section(params: Params, key: str, model: type[T] | Any) -> T:
    """The value at the dotted `key`, checked against `model` (a Section or any type pydantic knows).

    Raises StageError with every fault: the key, its value, what is allowed, and the nearest valid name.
    """
    value: Any = params
    walked: list[str] = []
    for name in key.split("."):
        walked.append(name)
        if not isinstance(value, Mapping) or name not in value:
            known = list(value) if isinstance(value, Mapping) else []
            raise StageError(f"params.yaml: {'.'.join(walked)} is missing{nearest(name, known)}")
        value = value[name]
    try:
        return TypeAdapter(model).validate_python(value)
    except ValidationError as error:
        raise StageError("\n".join(_fault(key, fault, model) for fault in error.errors())) from None


def params_root(environment: Mapping[str, str]) -> Path:
    """The folder from which relative paths in params.yaml are meant: this one, or $STROMA_ROOT where it is set.

    A retrain runs in a worktree of its own and sets it to the checkout that the worktree was made from.
    """
    return Path(environment.get("STROMA_ROOT", ""))


def nearest(name: str, known: list[str]) -> str:
    """A clause that names what `name` may have meant and what is allowed; empty if nothing is known."""
    if not known:
        return ""
    close = difflib.get_close_matches(name, known, n=1)
    meant = f"; did you mean '{close[0]}'?" if close else ""
    shown = sorted(known)
    more = f", ... ({len(shown)} in all)" if len(shown) > 20 else ""
    return f"{meant} (allowed: {', '.join(shown[:20])}{more})"


def _fault(key: str, fault: Any, model: Any) -> str:
    """One line for one of pydantic's faults."""
    where = ".".join([key, *(str(part) for part in fault["loc"])])
    if fault["type"] == "extra_forbidden":
        known = _allowed(model, fault["loc"][:-1])
        return f"params.yaml: {where} is not a known key{nearest(str(fault['loc'][-1]), known)}"
    if fault["type"] == "missing":
        return f"params.yaml: {where} is missing"
    if fault["type"] == "literal_error":
        known = [part.strip(" '") for part in fault["ctx"]["expected"].replace(" or ", ", ").split(",")]
        return f"params.yaml: {where} = {fault['input']!r} is not allowed{nearest(str(fault['input']), known)}"
    message = fault["msg"].removeprefix("Value error, ")
    value = "" if isinstance(fault["input"], Mapping | BaseModel) else f" = {fault['input']!r}"
    return f"params.yaml: {where}{value}: {message[0].lower()}{message[1:]}"


def _allowed(model: Any, path: tuple[int | str, ...]) -> list[str]:
    """Field names of the model that stands at `path` inside `model`; empty where that cannot be told."""
    schema = TypeAdapter(model).json_schema()
    node = schema
    for part in ("", *path):
        if part != "":
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or node.get("items") or {}
        options = [option for option in node.get("anyOf", [node]) if option.get("type") != "null"]
        node = options[0] if options else {}
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
    return list(node.get("properties", {}))
