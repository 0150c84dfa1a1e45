"""One agent runs on each host: it serves the HTTP API, plugs endpoints in, and reports their states."""
