"""Bitcoin and the chains made of its code, read over the RPC of a node that the operator runs.

`addresses` is the table of chains with addresses and scripts, `xpub` derives addresses, `rpc` asks a node. Nothing here
signs or sends."""
