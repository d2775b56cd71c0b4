"""`python -m bench`: figures, each against its baseline in the same run, so that ratios hold where seconds do not.

START HERE: `__main__`. It proves nothing right; the tests do."""
