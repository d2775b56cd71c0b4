"""Payouts over Lightning: invoices are decoded and held against what is wanted; `lnbits` asks a wallet to pay them.

It looks at no chain and holds no key that signs: whoever pays is the wallet behind the account."""
