"""What is wrong with a configuration, in sentences: which field, what was found, what is allowed."""

from __future__ import annotations

import difflib
import re
from functools import cache
from typing import Any

from pydantic import BaseModel, ValidationError


class ConfigError(Exception):
    """The configuration or the table is wrong; `problems` holds one sentence each."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__("\n".join([f"{count} in the configuration:", *(f"  - {p}" for p in problems)]))


def choice(allowed: list[str], found: str | None = None) -> str:
    """'one of a, b, c', led by the nearest to what was found."""
    if not allowed:
        return "nothing, the list is empty"
    near = difflib.get_close_matches(found, allowed, n=1, cutoff=0.6) if found else []
    listed = ", ".join(allowed if len(allowed) <= 30 else [*allowed[:30], f"and {len(allowed) - 30} more"])
    return f"one of {listed}" + (f"; did you mean {near[0]}?" if near else "")


@cache
def _schema(model: type[BaseModel]) -> dict[str, Any]:
    return model.model_json_schema()


def _node(model: type[BaseModel], location: tuple[str | int, ...]) -> dict[str, Any]:
    """JSON schema of the field at `location`, {} where there is none."""
    root = node = _schema(model)
    for part in (*location, None):
        if "$ref" in node:
            node = root["$defs"][node["$ref"].rsplit("/", 1)[1]] | {
                k: v for k, v in node.items() if k != "$ref"
            }
        if part is None:
            return node
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            node = node.get("properties", {}).get(part) or node.get("additionalProperties") or {}
            if not isinstance(node, dict):
                return {}
    return node


def _describe(node: dict[str, Any]) -> str:
    if "$comment" in node:
        return node["$comment"]
    if "anyOf" in node:
        return " or ".join(_describe(option) for option in node["anyOf"])
    if "enum" in node:
        return "one of " + ", ".join(str(value) for value in node["enum"])
    kind = node.get("type")
    if kind in ("number", "integer"):
        words = "a whole number" if kind == "integer" else "a number"
        low = (
            f"above {node['exclusiveMinimum']:g}" if "exclusiveMinimum" in node
            else f"at least {node['minimum']:g}" if "minimum" in node else ""
        )  # fmt: skip
        high = f"at most {node['maximum']:g}" if "maximum" in node else ""
        return " ".join([words, *filter(None, [" and ".join(filter(None, [low, high]))])])
    if kind == "array":
        least = f" of at least {node['minItems']}" if "minItems" in node else ""
        return f"a list{least}, each {_describe(node.get('items', {}))}"
    words = {"boolean": "true or false", "null": "null", "object": "a block of keys", "string": "text"}
    return words.get(kind, "a value")


def allowed(model: type[BaseModel], location: tuple[str | int, ...]) -> str:
    """What the field at `location` of `model` may hold, in words, with its description."""
    node = _node(model, location)
    words = _describe(node)
    return f"{words} ({node['description']})" if "description" in node else words


def sentences(error: ValidationError, model: type[BaseModel], where: str, prefix: str = "") -> list[str]:
    """One sentence for each error: `where`, the field (dotted, after `prefix`), what was found, what is
    allowed."""
    found_all = []
    for item in error.errors(include_url=False):
        location = item["loc"]
        keys = ".".join(part for part in location if isinstance(part, str))
        field = prefix + keys + "".join(f" item {part + 1}" for part in location if isinstance(part, int))
        if item["type"] == "value_error":
            text = f"{field}: {item['ctx']['error']}"
        elif item["type"] == "extra_forbidden":
            known = list(_node(model, location[:-1]).get("properties", {}))
            text = f"{field}: unknown key; allowed: {choice(known, str(location[-1]))}"
        elif item["type"] == "invalid_key":
            group = prefix + keys or "top level"
            text = f"{group}: found the key {item['input']!r}; allowed: keys that are text"
        elif item["type"] == "missing":
            text = f"{field}: missing; allowed: {allowed(model, location)}"
        else:
            value = item["input"]
            text = f"{field}: found {value!r}; allowed: {allowed(model, location)}"
            if isinstance(value, str) and re.fullmatch(r"[+-]?\d+[eE][+-]?\d+", value):
                text += " (YAML reads 1e-3 as text: write 1.0e-3 or 0.001)"
        found_all.append(f"{where}, {text}.")
    return found_all
