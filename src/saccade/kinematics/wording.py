"""From the words of an answer to plain text with digits, before anything is looked for in it."""

from __future__ import annotations

import re

_UNITS = [
    "zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve",
    "thirteen", "fourteen", "fifteen", "sixteen", "seventeen", "eighteen", "nineteen",
]  # fmt: skip
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
SMALL = {word: index for index, word in enumerate(_UNITS)}
SMALL |= {word: 10 * index for index, word in enumerate(_TENS, 2)} | {"fourty": 40}

_WORD = "|".join(sorted(SMALL, key=len, reverse=True))
_ONES = "|".join(_UNITS[1:10])
_NUMBER_WORDS = re.compile(
    rf"(?<![\w-])(?:(?P<tens>{'|'.join([*_TENS, 'fourty'])})(?:[\s-]+(?P<ones>{_ONES}))|(?P<word>{_WORD}))(?![\w])"
)
_MEASURED = (
    r"(?:(?:kilo|centi|milli)?met(?:er|re)s?|feet|foot|yards?|inch(?:es)?|miles?|seconds?|minutes?|hours?|knots?|"
    r"km|m|cm|ft|yd|mi|mph|kph|km/h|m/s|s|sec|o\s?'?\s?clock|hundred|thousand|point|half|to|degrees?|times)\b"
)
_PRONOUN_BEFORE = re.compile(
    r"(?:\b(?:the|this|that|these|those|which|each|other|any|no|only|every|another|either|\w+ed|red|blue|green|white|"
    r"yellow|black|orange|purple|cyan|magenta|first|second|last|slower|faster)\s+)$"
)
_ZEN = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4`", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u2248\u2245\u223c\u2243", "~"),
        **dict.fromkeys("\u00a0\u2007", " "),
        "\u00d7": "x",
        "\u22c5": "\u00b7",
        "\u207b": "^-",
        "\u00b9": "1",
    }
)


def plain(text: str) -> str:
    r"""Lower the case, unify signs, and keep the part that the answer itself marks as its answer.

    `<think>` parts are cut; of `<answer>...</answer>`, `\boxed{...}` and "(final) answer:", the last one is kept.
    Thousands lose their commas and decimal commas become points.
    """
    text = text.translate(_ZEN).lower()
    text = re.sub(r"<think>.*?</think>", " ", text, flags=re.DOTALL)
    text = text.rpartition("</think>")[2]
    text = text.partition("<think>")[0]
    text = text.replace("**", "").replace("__", "")
    text = _marked(text)
    text = re.sub(r"\\(?:text|mathrm|mathbf|mbox|textbf)\s*\{([^{}]*)\}", r" \1", text)
    text = re.sub(r"\\(?:approx|sim)\b", " ~ ", text)
    text = text.replace("\\times", "x").replace("\\pm", "\u00b1").replace("\\cdot", "\u00b7")
    text = re.sub(r"\\[,;:! ]|[$]|[{}]", " ", text)
    text = re.sub(r"(?<=\d)[\u2009\u202f](?=\d{3}(?!\d))", "", text)
    text = re.sub(
        r"(?<![\d.,])([1-9]\d{0,2})((?:,\d{3})+)(?!\d|,\d)", lambda m: m[1] + m[2].replace(",", ""), text
    )
    text = re.sub(r"(?<![\d.,])(\d+),(\d{1,2})(?![\d,])", r"\1.\2", text)
    text = re.sub(r"(?<![\d.,])0,(\d{3,})(?![\d,])", r"0.\1", text)
    text = re.sub(r"(\d(?:\.\d+)?)\s*x\s*10\s*\^?\s*([+-]?\d+)(?!\d)", r"\1e\2", text)
    return re.sub(r"\s+", " ", text).strip()


def _marked(text: str) -> str:
    """Keep what the answer marks as its answer, if it marks anything."""
    if found := re.findall(r"<answer>(.*?)(?:</answer>|$)", text, flags=re.DOTALL):
        text = found[-1]
    if (at := text.rfind("\\boxed{")) >= 0:
        depth, start = 1, at + len("\\boxed{")
        for index in range(start, len(text)):
            depth += {"{": 1, "}": -1}.get(text[index], 0)
            if depth == 0:
                return text[start:index]
        return text[start:]
    marks = list(re.finditer(r"\b(?:final\s+)?answer\s*:", text))
    if marks and (rest := text[marks[-1].end() :].strip(" *:\n\t")):
        return rest
    return text


def digits(text: str) -> str:
    """Write number words as digits: zero to ninety-nine, hundreds, thousands, dozens and halves.

    "one" stays a word where it stands for a thing ("the red one").
    """

    def number(match: re.Match[str]) -> str:
        if match["tens"]:
            return str(SMALL[match["tens"]] + SMALL[match["ones"]])
        if match["word"] == "one" and not re.match(rf"[\s-]*(?:{_MEASURED}|and a half)", text[match.end() :]):
            before = text[: match.start()]
            after = text[match.end() :]
            if _PRONOUN_BEFORE.search(before) or re.match(r"\s+(?:in|of|that|which|is|with|on)\b", after):
                return "one"
        return str(SMALL[match["word"]])

    text = re.sub(r"\bhalf\s+a\s+dozen\b", "6", text)
    text = re.sub(
        r"(?<!and )(?<!and a )\b(?:half\s+an?|an?\s+half|half)(?=\s+(?:kilomet|met|mile|foot|yard|inch))",
        "0.5",
        text,
    )
    text = re.sub(
        r"\ban?\s+(?=(?:(?:kilo|centi)?met(?:er|re)|foot|yard|inch|mile)\b(?!\s*(?:per|a|an|/)\b))",
        "1 ",
        text,
    )
    text = _NUMBER_WORDS.sub(number, text)
    text = re.sub(r"\b(\d+)\s+and\s+(?:a\s+half|1/2)\b", r"\1.5", text)
    text = re.sub(r"\b(\d+)\s+point\s+(\d+)\b", r"\1.\2", text)
    text = re.sub(r"\b(\d+(?:\.\d+)?)\s*dozen\b", lambda m: _short(12 * float(m[1])), text)
    text = re.sub(r"\ba\s+dozen\b", "12", text)
    text = re.sub(r"\ba\s+(hundred|thousand)\b", r"1 \1", text)
    for word, factor in (("hundred", 100), ("thousand", 1000)):
        text = re.sub(
            rf"\b(\d+(?:\.\d+)?)\s*{word}(?:\s+(?:and\s+)?(\d{{1,3}})(?![\d.]))?\b",
            lambda m, factor=factor: _short(float(m[1]) * factor + float(m[2] or 0)),
            text,
        )
    return text


def _short(value: float) -> str:
    return f"{value:.10g}"
