"""Simulated rails: pure worlds, and the adapters in front of them.

A world knows nothing of us; its adapter knows only what a node or a bank would say, and judges it. They serve the
simulator, the demo and the conformance suites; nothing of a real rail lives here."""
