"""Reports that other machines can reach the agent's API without TLS."""

from __future__ import annotations

import logging

from agent.config import Config
from agent.feature import Feature
from warren.exposure import exposure, log_exposure

log = logging.getLogger("warren.agent")
REMEDY = "set WARREN_TLS_CERT, WARREN_TLS_KEY and WARREN_TLS_CA, or listen on 127.0.0.1"


class ExposedApi(Feature):
    """A problem for as long as the agent listens so; it logs it once."""

    def __init__(self, config: Config) -> None:
        line = None
        if config.http is not None and config.http_tls is None:
            line = exposure("WARREN_HTTP", "whoever reaches it can change all networks: the API is", config.http[0], REMEDY)
        self._problems = log_exposure(log, line, trusted=config.common.trusted_network)

    def problems(self) -> list[str]:
        """Return the line, if there is one."""
        return self._problems
