"""One agent per host: SAND's HTTP API and more, plugs endpoints in, reports what it sees."""
