"""What far sides say is shown without the secrets that they echo, however they spell them."""

from __future__ import annotations

import base64
import json
import re
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from senders.redaction import MAX_REDACTED, excerpt, redact

if TYPE_CHECKING:
    from collections.abc import Callable


@given(
    st.text(min_size=6, max_size=40),
    st.binary(max_size=10),
    st.binary(max_size=10),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
)
def test_a_secret_is_redacted_in_base64_wherever_it_stands(
    secret: str, before: bytes, after: bytes, encode: Callable[[bytes], bytes]
) -> None:
    text = encode(before + secret.encode() + after).decode()
    redacted = redact(text, [secret])
    # What is left on either side is at most two characters that also hold bits of the secret.
    left, _, right = redacted.partition("***")
    assert "***" in redacted
    assert len(left) + len(right) <= len(encode(before)) + len(encode(after)) + 4


@pytest.mark.parametrize(
    "said",
    [
        "QUxJQ0VkXw==",
        base64.b64encode(b"\0alice-in-chains\0wonder/land?>").decode(),
        "Basic YWxpY2UtaW4tY2hhaW5zOng=",
    ],
)
def test_credentials_that_a_server_quotes_are_not_repeated(said: str) -> None:
    redacted = redact(f"535 no: {said}", ["alice-in-chains", "wonder/land?>", "ALICEd_"])
    assert "***" in redacted
    for part in re.findall(r"[A-Za-z0-9+/]{8,}", redacted):
        assert b"alice" not in base64.b64decode(part + "=" * (-len(part) % 4)).lower()
        assert b"land" not in base64.b64decode(part + "=" * (-len(part) % 4)).lower()


@given(st.text(min_size=4, max_size=40), st.text(), st.text())
def test_a_secret_is_redacted_wherever_it_stands(secret: str, before: str, after: str) -> None:
    assert secret not in redact(before + secret + after, [secret]) or secret in "*" * 40


@given(st.text(alphabet=st.sampled_from("\"'\\/&ab é👍\t"), min_size=4, max_size=40))
def test_a_secret_is_redacted_as_json_and_python_quote_it(secret: str) -> None:
    for quoted in (json.dumps(secret), json.dumps(secret, ensure_ascii=False), repr(secret)):
        redacted = redact(f"{{x: {quoted}}}", [secret])
        assert re.fullmatch(r"\{x: [\"']?\*\*\*[\"']?\}", redacted)


@pytest.mark.parametrize("shown", [0, 1, 3, 20, 100, 240, 4096])
@pytest.mark.parametrize("filler", ["_", "wonderland", "👍"])
def test_a_secret_at_the_end_of_what_is_read_is_not_shown_in_part(shown: int, filler: str) -> None:
    """Also where another secret stands within it, or over its end, and is looked for by itself."""
    secret = "alice-" + "k5-in-wonderland-" * 12 + "and-behind-the-looking-glass"
    others = ["wonderland", "alice-k5-in", "ass" + secret[:9]]
    before = (filler * min(50, (4096 - shown) // len(filler))).rjust(4096 - shown, "_")
    redacted = redact(before + secret * 20, [*others, secret], 4096)
    assert len(redacted) <= 4096 + len("***")
    assert set(redacted) <= set("_*👍")


def test_a_cut_that_halves_no_secret_costs_nothing() -> None:
    assert redact("ab" * 10, ["canary"], 7) == "abababa"
    assert redact("abc", ["bcde"], 3) == "abc"
    assert redact("abcx", ["bcde"], 3) == "a***"
    assert redact("abcx", ["bcde"]) == "abcx"


def test_few_characters_are_searched_for_the_many_words_of_a_channels_headers() -> None:
    """It is done on the event loop: some milliseconds, where the whole body took seconds."""

    class Counting(str):
        __slots__ = ()
        searched = 0

        def __getitem__(self, key: Any) -> Counting:
            return Counting(str.__getitem__(self, key))

        def find(self, *args: Any) -> int:
            Counting.searched += len(self)
            return str.find(self, *args)

    words = [f"{number:04x}" for number in range(8192 // 5)]
    redact(Counting("z" * 65_536), words, MAX_REDACTED)
    assert 0 < Counting.searched <= 2 * 12 * len(words) * MAX_REDACTED


SECRET = "ab+cd/ef=gh&ij'kl"


@pytest.mark.parametrize(
    "said",
    [
        pytest.param("ab%2bcd%2fef%3dgh%26ij%27kl", id="URL in small letters"),
        pytest.param("ab+cd%2Fef=gh&ij'kl", id="URL in part"),
        pytest.param(r"ab\u002Bcd/ef=gh\u0026ij\u0027kl", id="JSON of ASP.NET"),
        pytest.param(r"ab+cd\/ef=gh\u0026ij'kl", id="JSON of Go"),
        pytest.param("ab&#43;cd/ef=gh&amp;ij&#39;kl", id="HTML of Go"),
        pytest.param("ab%2Bcd%2Fef%3Dgh&amp;ij&apos;kl", id="HTML of a URL"),
        pytest.param(r"ab%252bcd\u00252fef=gh\x26ij\'kl", id="layers"),
        pytest.param(SECRET.encode("utf-16-le").decode(), id="UTF-16"),
        pytest.param("\ufeff".join(SECRET), id="marks between"),
    ],
)
def test_a_secret_is_redacted_in_whichever_characters_are_escaped(said: str) -> None:
    assert excerpt(f'{{"you said": "{said}"}}', [SECRET]) == '{"you said": "***"}'


@pytest.mark.parametrize("end", range(4, 60))
def test_a_secret_that_ends_behind_what_is_read_is_redacted_in_escapes_too(end: int) -> None:
    text = "<" + "".join(f"%{ord(letter):02x}" for letter in SECRET) + "é%c3%a9" * 9
    shown = redact(text, [SECRET + "éé"], end)
    assert set(shown) <= set("<*")
