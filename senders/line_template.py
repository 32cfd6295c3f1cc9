"""Templates for one line of text, such as a mail's subject, in a harmless part of Jinja.

A template is checked when it is saved: only text, `{{ names }}`, conditions and a few filters. There are no
loops, calls or arithmetic, so time and output are bounded by the template's length; and a dot reads an item
of the alert, never an attribute of a Python object, so there is nothing to walk to.

Facts: https://jinja.palletsprojects.com/en/stable/sandbox/ (sandboxing "is not a solution for perfect
security", and range and multiplication may still exhaust a process: hence the list of what is allowed).
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from jinja2 import ChainableUndefined, TemplateSyntaxError, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from senders.text import clip, lead, level, one_line, symbol, title

if TYPE_CHECKING:
    from jinja2 import Template

    from senders.base import Notification

MAX_TEMPLATE: Final = 500
MAX_VALUE: Final = 500
"""Characters of one value; a template repeats a value at most as often as it names it."""

NAMES: Final = ("alert", "event", "job_id", "lead", "level", "severity", "symbol", "tenant", "title")
FILTERS: Final = ("capitalize", "default", "lower", "title", "trim", "upper")

_ALLOWED: Final = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Getattr, nodes.Getitem, nodes.Const,
    nodes.Filter, nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not,
    nodes.Concat,
)  # fmt: skip


class _Environment(ImmutableSandboxedEnvironment):
    """Jinja in which `alert.message` and `alert["message"]` both read an item, and nothing else is read."""

    def getattr(self, obj: Any, attribute: str) -> Any:
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping) and isinstance(argument, str) and argument in obj:
            return obj[argument]
        return self.undefined(obj=obj, name=str(argument))


# Not escaped: it makes a line of text, no HTML.
_ENVIRONMENT: Final = _Environment(undefined=ChainableUndefined, autoescape=False)
_ENVIRONMENT.filters = {name: _ENVIRONMENT.filters[name] for name in FILTERS}
_ENVIRONMENT.globals.clear()


def check_template(template: str) -> str:
    """Accept a template, or say what is wrong with it. Pure; fit for a pydantic AfterValidator.

    Returns:
        The template, unchanged.

    Raises:
        ValueError: one clause that names the rule.
    """
    if not template.strip() or len(template) > MAX_TEMPLATE:
        raise ValueError(f"must be a template of 1 to {MAX_TEMPLATE} characters")
    try:
        tree = _ENVIRONMENT.parse(template)
    except TemplateSyntaxError as error:
        raise ValueError(f"must be a Jinja template: {error.message}") from None
    except RecursionError:
        raise ValueError("must not be nested so deeply") from None
    for node in tree.find_all(nodes.Node):
        if not isinstance(node, _ALLOWED):
            raise ValueError(  # noqa: TRY004  # pydantic shows ValueErrors
                f"must hold only text, names, conditions and filters, no {type(node).__name__.lower()}"
            )
        if isinstance(node, nodes.Filter) and (node.name not in FILTERS or len(node.args) > 1 or node.kwargs):
            raise ValueError(f"must use no filters but {', '.join(FILTERS)}")
    unknown = sorted({node.name for node in tree.find_all(nodes.Name)} - set(NAMES))
    if unknown:
        raise ValueError(f"names {one_line(unknown[0])}, and may name {', '.join(NAMES)}")
    return template


@functools.lru_cache(maxsize=256)
def _compiled(template: str) -> Template:
    return _ENVIRONMENT.from_string(template)


def render(template: str, notification: Notification[Any]) -> str:
    """One line, cleaned and not clipped; may be empty. What an alert does not have is written as nothing.

    Args:
        template: accepted by check_template.
        notification: where the values come from.
    """
    values = {
        "alert": _plain(notification.alert),
        "event": notification.event,
        "job_id": notification.job_id,
        "lead": lead(notification),
        "level": level(notification),
        "severity": notification.severity,
        "symbol": symbol(notification),
        "tenant": _plain(notification.tenant_id),
        "title": _plain(title(notification)),
    }
    return one_line(_compiled(template).render(values))


def _plain(value: Any) -> Any:
    """Mappings stay, so that a dot can go into them; all else is a short line of text."""
    if isinstance(value, Mapping):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    return clip(one_line(value), MAX_VALUE)
