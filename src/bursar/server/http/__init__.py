"""HTTP: the API, the health endpoints and the pages. A handler decodes, authorises, calls one command and encodes."""
