"""Bursar watches money on ledgers that its users don't control, and drives what they declare to its state exactly
once. `bursar.open` embeds it in an application; `bursar up` runs it as a service."""

from .server.library import open as open
