"""Payouts over Lightning: invoices are decoded and held against what is wanted; `lnbits` asks a wallet to pay them.

It looks at no chain and holds no key that signs: whoever pays is the wallet behind the account."""

from .bolt11 import Bolt11, decode, usual_fee, verify
from .lnbits import Account, LnbitsExecutor

__all__ = ["Account", "Bolt11", "LnbitsExecutor", "decode", "usual_fee", "verify"]
