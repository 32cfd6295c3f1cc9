"""/docs: the OpenAPI document as one page of HTML, drawn here. It needs no script and nothing from the internet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import orjson
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup, escape
from starlette.responses import HTMLResponse

if TYPE_CHECKING:
    from fastapi import FastAPI

TEMPLATES = Path(__file__).with_name("templates")

#: The page has a style of its own and loads nothing.
POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

#: What descriptions have of Markdown: code, and words in bold.
_MARKED = re.compile(r"`([^`]+)`|\*\*([^*]+)\*\*")
#: A line's end that ends no paragraph.
_WRAP = re.compile(r"(?<!\n)\n(?!\n)")

METHODS = ("get", "post", "put", "patch", "delete")


def add_to(app: FastAPI) -> None:
    """Add the page."""
    pages: list[str] = []

    @app.get("/docs", include_in_schema=False)
    def docs() -> HTMLResponse:
        if not pages:
            pages.append(render(app.openapi()))
        return HTMLResponse(pages[0], headers={"Content-Security-Policy": POLICY})


def render(document: dict[str, Any]) -> str:
    """The page."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, undefined=StrictUndefined)
    environment.filters["json"] = _json
    environment.filters["prose"] = prose
    environment.filters["words"] = shape_words
    environment.filters["name"] = _name
    schemas = document["components"]["schemas"]
    return environment.get_template("reference.html").render(
        info=document["info"],
        groups=[(tag, _calls(document, tag["name"])) for tag in document["tags"]],
        schemas=sorted(schemas.items()),
    )


def _calls(document: dict[str, Any], tag: str) -> list[tuple[str, str, dict[str, Any]]]:
    return [
        (method.upper(), path, item[method])
        for path, item in document["paths"].items()
        for method in METHODS
        if method in item and tag in item[method]["tags"]
    ]


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def prose(text: str) -> Markup:
    """A description as it is meant: what OpenAPI calls CommonMark, of which ours have code, bold and paragraphs."""
    text = _WRAP.sub(" ", text)
    made, at = Markup(), 0
    for found in _MARKED.finditer(text):
        code, bold = found.groups()
        element = (
            Markup("<code>{}</code>").format(code) if code else Markup("<strong>{}</strong>").format(bold)
        )
        made += escape(text[at : found.start()]) + element
        at = found.end()
    return made + escape(text[at:])


def _name(schema: dict[str, Any]) -> str:
    """The component that a schema refers to, or ""."""
    return str(schema.get("$ref", "")).rpartition("/")[2]


def shape_words(schema: dict[str, Any]) -> str:
    """What a schema asks for, in a few words."""
    choices = schema.get("anyOf") or schema.get("oneOf")
    if "$ref" in schema:
        return _name(schema)
    if "const" in schema or "enum" in schema:
        return " | ".join(str(value) for value in schema.get("enum", [schema.get("const")]))
    if choices:
        return " or ".join(dict.fromkeys(shape_words(each) for each in choices))
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {shape_words(schema.get('items', {}))}"
    kind = " or ".join(kind) if isinstance(kind, list) else kind
    bounds = [
        f"{word} {schema[key]}"
        for key, word in (
            ("minimum", "from"),
            ("maximum", "to"),
            ("exclusiveMaximum", "below"),
            ("minLength", "at least characters:"),
            ("maxLength", "at most characters:"),
        )
        if key in schema
    ]
    words = f"{kind} ({schema['format']})" if "format" in schema else str(kind)
    return ", ".join([words, *bounds])
