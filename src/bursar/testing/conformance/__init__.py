"""Suites for whoever implements a port: run them unchanged against your adapter, and it is one of ours."""
