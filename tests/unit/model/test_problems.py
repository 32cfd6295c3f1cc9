"""What is wrong with an input, in words that a person can act on."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel, Field, ValidationError

from model.problems import problems_of

Word = Annotated[str, AfterValidator(str.strip)]


class Given(BaseModel):
    words: tuple[Annotated[str, Field(min_length=2)], ...] = Field(("ok",), min_length=1, max_length=2)
    name: Annotated[Word, Field(min_length=1, max_length=4)] = "n"
    code: str = Field("c", max_length=1)
    marks: dict[str, int] = Field({"a": 1}, min_length=2)
    inner: tuple[Inner, ...] = Field((), max_length=2)


class Inner(BaseModel):
    words: list[int] = Field([1], min_length=1)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"words": []}, ["words: must have at least 1 item"]),
        ({"words": ["ab"] * 3}, ["words: must have at most 2 items"]),
        ({"words": ["a"]}, ["words[0]: must have at least 2 characters"]),
        ({"words": [1, "ab"]}, ["words[0]: input should be a valid string"]),
        ({"marks": {}}, ["marks: must have at least 2 items"]),
        ({"name": " "}, ["name: must have at least 1 character"]),
        ({"name": "n" * 5}, ["name: must have at most 4 characters"]),
        ({"code": "cc"}, ["code: must have at most 1 character"]),
        (
            {"inner": [{"words": []}, {"words": ["x"]}], "words": []},
            [
                "words: must have at least 1 item",
                "inner[0].words: must have at least 1 item",
                "inner[1].words[0]: input should be a valid integer, unable to parse string as an integer",
            ],
        ),
    ],
)
def test_a_length_is_said_once_and_as_what_it_must_be(given: dict[str, object], expected: list[str]) -> None:
    with pytest.raises(ValidationError) as caught:
        Given.model_validate(given)
    assert [str(problem) for problem in problems_of(caught.value)] == expected
