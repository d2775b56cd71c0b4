"""The composition root: configuration, wiring, loops, HTTP, pages, command line. Nothing here decides about money."""
