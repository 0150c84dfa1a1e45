"""One agent per host: serves the HTTP API, plugs endpoints in, reports their states."""
