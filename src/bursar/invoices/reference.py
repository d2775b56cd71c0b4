"""The one word that users of a checkout monitor know an invoice by. A total table; nothing decides by it."""

from __future__ import annotations

from collections.abc import Set


def reference_status(state: str, flags: Set[str]) -> str:
    match state:
        case "settled":
            return "OVERPAID" if "over" in flags else "CONFIRMED"
        case "expired" | "cancelled":
            return "EXPIRED"
        case "awaiting_payer":
            return "UNDERPAID" if "partial" in flags else "PENDING"
        case "awaiting_operator":
            words = (("partial", "UNDERPAID"), ("over", "OVERPAID"), ("late", "EXPIRED"))
            return next((word for flag, word in words if flag in flags), "PENDING")
    return "PENDING"
