"""Templates that a channel's owner writes, in a harmless part of Jinja.

A template is checked when it is saved: only text, `{{ names }}`, conditions and a few filters. There are no
loops, calls or arithmetic, and values are clipped before a template sees them, so time and output are bounded
by the template's own length; and a dot reads an item of the alert, never an attribute of a Python object, so
there is nothing to walk to.

Facts: https://jinja.palletsprojects.com/en/stable/sandbox/ (sandboxing alone "is not a solution for perfect
security", and range or multiplication may exhaust a process: hence the list of what is allowed).
"""

from __future__ import annotations

import functools
import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from jinja2 import ChainableUndefined, TemplateError, TemplateSyntaxError, Undefined, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from jinja2 import Template

MAX_TEMPLATE: Final = 4000
MAX_OUTPUT: Final = 20_000
"""Characters."""

MAX_VALUE: Final = 4000
"""Characters of one value; a template repeats a value at most as often as it names it."""

MAX_FILTERS: Final = 20
"""In a template; each reads its whole value, on the event loop, also where nothing of it is written."""

NAMES: Final = (
    "alert", "body", "event", "facts", "job_id", "lead", "level", "severity", "symbol", "tenant_id", "title",
)  # fmt: skip
"""What a template may name; senders.text says what each holds."""

FIELDS: Final = (
    "alert_id", "alert_type", "details", "device_id", "event_type", "message", "site_id", "triggered_at",
)  # fmt: skip
"""And of the alert, without `alert.` before it: the rest of its fields."""

FILTERS: Final = ("capitalize", "default", "lower", "title", "trim", "upper")

_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const,
    nodes.Filter, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.Concat,
)  # fmt: skip


class TemplateFailedError(Exception):
    """A template that was accepted cannot be rendered for this alert. The text is a clause for people."""


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja in which `alert.message` and `alert["message"]` both read an item, and nothing else is read."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping) and isinstance(argument, str) and obj.get(argument) is not None:
            return obj[argument]
        return self.undefined(obj=obj, name=str(argument))


def _shown(value: Any) -> str:
    """A value as it is written: JSON but for text, and nothing where the alert has none."""
    if isinstance(value, Undefined) or value is None:
        return ""
    if isinstance(value, str):
        return value[:MAX_VALUE]
    return str(value) if isinstance(value, _Fields | _Items) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)[:MAX_VALUE]


class _Fields(dict[str, Any]):
    """A mapping that is made into text once, however often a template names it."""

    @functools.cached_property
    def _text(self) -> str:
        return _json(self)

    def __str__(self) -> str:
        return self._text


class _Items(list[Any]):
    """A list, likewise."""

    @functools.cached_property
    def _text(self) -> str:
        return _json(self)

    def __str__(self) -> str:
        return self._text


def _bounded(value: Any) -> Any:
    """A copy in which no text is longer than MAX_VALUE, nor becomes it where it is joined, compared or filtered."""
    if isinstance(value, str):
        return value[:MAX_VALUE]
    if isinstance(value, Mapping):
        return _Fields((name, _bounded(item)) for name, item in value.items())
    return _Items(map(_bounded, value)) if isinstance(value, list | tuple) else value


def _clipping(function: Callable[[str], str]) -> Callable[[Any], str]:
    """A filter that reads no more than a value's worth of what `~` has joined."""

    def clipped(value: Any) -> str:
        return function(_shown(value))

    return clipped


# Not escaped: it makes plain text, which each sender escapes for its provider.
_ENVIRONMENT: Final = _Environment(undefined=ChainableUndefined, autoescape=False, finalize=_shown)
_ENVIRONMENT.filters = {
    name: _ENVIRONMENT.filters[name] if name == "default" else _clipping(_ENVIRONMENT.filters[name])
    for name in FILTERS
}
_ENVIRONMENT.tests = {}
_ENVIRONMENT.globals.clear()


def check_template(source: str) -> str:
    """Accept a template, or say what is wrong with it. Pure; fit for a pydantic AfterValidator.

    Returns:
        The template, unchanged.

    Raises:
        ValueError: one clause that names the line and the rule.
    """
    if not source.strip() or len(source) > MAX_TEMPLATE:
        raise ValueError(f"must be a template of 1 to {MAX_TEMPLATE} characters")
    try:
        tree = _ENVIRONMENT.parse(source)
        for node in tree.find_all(nodes.Node):
            _check_node(node)
        filters = sorted(node.lineno for node in tree.find_all(nodes.Filter))
        if len(filters) > MAX_FILTERS:
            raise ValueError(f"line {filters[MAX_FILTERS]}: must use at most {MAX_FILTERS} filters")
        _compiled(source)
    except TemplateSyntaxError as error:
        raise ValueError(f"line {error.lineno}: must be a Jinja template: {error.message}") from None
    except (RecursionError, MemoryError, SyntaxError):
        raise ValueError("must not be nested so deeply") from None
    return source


def _check_node(node: nodes.Node) -> None:
    if not isinstance(node, _ALLOWED):
        kind = type(node).__name__.lower()
        raise ValueError(  # noqa: TRY004  # pydantic shows ValueErrors
            f"line {node.lineno}: must hold only text, names, conditions and filters, no {kind}"
        )
    if isinstance(node, nodes.Name) and node.name not in NAMES + FIELDS:
        raise ValueError(
            f"line {node.lineno}: names {node.name[:50]}, and may name {', '.join(NAMES)}, or a field of the alert"
        )
    if isinstance(node, nodes.Filter):
        # Arguments of their own are for `default` alone: {{ alert.site_id | default("nowhere") }}.
        if node.name not in FILTERS:
            raise ValueError(f"line {node.lineno}: must use no filters but {', '.join(FILTERS)}")
        if (node.args and node.name != "default") or len(node.args) > 1 or node.kwargs:
            raise ValueError(f"line {node.lineno}: must give a filter no arguments, but default one")


@functools.lru_cache(maxsize=512)
def _compiled(source: str) -> Template:
    return _ENVIRONMENT.from_string(source)


def render(source: str, values: Mapping[str, Any]) -> str:
    """At most MAX_OUTPUT characters; neither cleaned nor escaped; may be empty.

    Args:
        source: accepted by check_template.
        values: of NAMES, with an alert in which FIELDS are looked up.

    Raises:
        TemplateFailedError: the alert's values do not suit the template, such as text that is compared with a
            number.
    """
    parts: list[str] = []
    room = MAX_OUTPUT
    try:
        for part in _compiled(source).generate(_known(values)):
            parts.append(part[:room])
            room -= len(part)
            if room <= 0:
                break
    except (TemplateError, TypeError, ValueError, ArithmeticError, RecursionError) as error:
        # The error's own text may quote what the alert says.
        raise TemplateFailedError(f"{type(error).__name__} in line {_line(error)}") from None
    return "".join(parts)


def _known(values: Mapping[str, Any]) -> dict[str, Any]:
    """What the template may name, bounded; of the alert's fields those that it has."""
    bounded = _bounded(values)
    alert = bounded["alert"]
    return {**{name: alert[name] for name in FIELDS if alert.get(name) is not None}, **bounded}


def _line(error: Exception) -> int | str:
    """The template's line, which Jinja writes into the traceback of what went wrong there."""
    trace = error.__traceback__
    found: int | str = "?"
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            found = trace.tb_lineno
        trace = trace.tb_next
    return found
