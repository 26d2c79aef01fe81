"""Kubernetes quantities (non-negative, decimal notation) as exact numbers."""

from __future__ import annotations

from decimal import ROUND_CEILING, Decimal

_FACTORS = {
    "m": Decimal("0.001"),
    "": Decimal(1),
    **{suffix: Decimal(1000) ** n for n, suffix in enumerate(("k", "M", "G", "T"), start=1)},
    **{suffix: Decimal(1024) ** n for n, suffix in enumerate(("Ki", "Mi", "Gi", "Ti"), start=1)},
}


def parse_quantity(text: str) -> Decimal:
    """`"500m"` → 0.5, `"1Gi"` → 1073741824.

    Raises:
        ValueError: not such a quantity.
    """
    suffix = text.lstrip("0123456789.")
    number = text[: len(text) - len(suffix)]
    if suffix not in _FACTORS or not number:
        raise ValueError(f"'{text}' is not a quantity such as 500m, 2, 128M or 1Gi")
    return Decimal(number) * _FACTORS[suffix]


def format_cpu(cores: Decimal) -> str:
    """Whole millicores, rounded up, at least 1."""
    return f"{max(1, int((cores * 1000).to_integral_value(rounding=ROUND_CEILING)))}m"


def format_bytes(size: Decimal) -> str:
    """Whole bytes, rounded up."""
    return str(int(size.to_integral_value(rounding=ROUND_CEILING)))
