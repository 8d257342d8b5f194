"""What the lines say: invented texts of nine kinds. None was read anywhere and none belongs to anybody."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType

import numpy as np

Writer = Callable[[np.random.Generator], str]

_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"
_STREETS = (
    *("Maple", "Oak", "Cedar", "Pine", "Elm", "Walnut", "Spruce", "Willow", "Lake", "Hill", "Park", "River", "Spring"),
    *("Church", "Mill", "Main", "Adams", "Grant", "Lincoln", "Jackson", "Madison", "Franklin", "Highland", "Sunset"),
)
_WAYS = ("St", "Ave", "Rd", "Dr", "Ln", "Blvd", "Ct", "Way")
_INVOICES = ("INV", "FT", "FAC", "RF", "BL", "CN")
_WARDS = ("千代田区", "中央区", "文京区", "品川区", "大田区", "世田谷区", "中野区", "北区", "板橋区", "足立区")
_TOWNS = (
    "神田",
    "大手町",
    "日本橋",
    "小石川",
    "上野",
    "大崎",
    "三田",
    "青山",
    "代田",
    "中野",
    "王子",
    "平和台",
    "千住",
)
_STATES = ("MH", "DL", "KA", "TN", "GJ", "UP", "WB", "RJ", "AP", "KL")
_PRICED_IN = ("RM", "THB", "PHP", "SGD")
_CURRENCIES = ("AED", "SAR", "QAR", "OMR", "BHD", "KWD")


def _digits(rng: np.random.Generator, count: int) -> str:
    return "".join(map(str, rng.integers(0, 10, count)))


def _letters(rng: np.random.Generator, count: int) -> str:
    return "".join(_LETTERS[index] for index in rng.integers(0, len(_LETTERS), count))


def _one(rng: np.random.Generator, of: Sequence[str]) -> str:
    return of[int(rng.integers(len(of)))]


def _street(rng: np.random.Generator) -> str:
    return f"{rng.integers(1, 9999)} {_one(rng, _STREETS)} {_one(rng, _WAYS)}"


def _invoice(rng: np.random.Generator) -> str:
    return f"{_one(rng, _INVOICES)}-{rng.integers(2015, 2027)}/{_digits(rng, int(rng.integers(3, 7)))}"


def _meter(rng: np.random.Generator) -> str:
    return f"{_digits(rng, 6)},{_digits(rng, 1)}"


def _price(rng: np.random.Generator) -> str:
    if rng.integers(2):
        return f"Rp {rng.integers(1, 999)}.{_digits(rng, 1)}00"
    return f"{_one(rng, _PRICED_IN)} {rng.integers(1, 999)}.{_digits(rng, 2)}"


def _address(rng: np.random.Generator) -> str:
    return f"{_one(rng, _WARDS)}{_one(rng, _TOWNS)}{rng.integers(1, 9)}-{rng.integers(1, 40)}-{rng.integers(1, 30)}"


def _plate(rng: np.random.Generator) -> str:
    if rng.integers(2):
        return f"{_letters(rng, 3)}{_digits(rng, 1)}{_letters(rng, 1)}{_digits(rng, 2)}"
    return f"{_digits(rng, 3)}.{_digits(rng, 3)}.{_digits(rng, 3)}-{_digits(rng, 2)}"


def _vehicle(rng: np.random.Generator) -> str:
    return f"{_one(rng, _STATES)}{_digits(rng, 2)} {_letters(rng, int(rng.integers(1, 3)))} {_digits(rng, 4)}"


def _amount(rng: np.random.Generator) -> str:
    whole = int(10 ** rng.uniform(1, 6))
    return f"{_one(rng, _CURRENCIES)} {whole:,}.{_digits(rng, 2)}"


def _quote(rng: np.random.Generator) -> str:
    price = f"{rng.integers(1, 600)}.{_digits(rng, 2)}"
    return f"{_digits(rng, 4)}.HK {price} {_one(rng, '+-')}{_digits(rng, 1)}.{_digits(rng, 2)}%"


WRITERS: Mapping[str, Writer] = MappingProxyType(
    {
        "addresses": _street,
        "invoice numbers": _invoice,
        "meter readings": _meter,
        "price tags": _price,
        "addresses in kanji": _address,
        "number plates and tax numbers": _plate,
        "vehicle registrations": _vehicle,
        "amounts": _amount,
        "stock quotes": _quote,
    }
)


def different(write: Writer, rng: np.random.Generator) -> Iterator[str]:
    """Texts without end, none of them twice."""
    seen: set[str] = set()
    while True:
        text = write(rng)
        if text not in seen:
            seen.add(text)
            yield text
