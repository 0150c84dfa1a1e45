"""A minimal container runtime that calls CNI plugins as the specification prescribes: plugin lists, environment, standard input."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from tests.waiting import LIMIT_S


class Failed(Exception):
    """The error that a plugin answered instead of a result."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(error["msg"])
        self.error, self.code = error, error["code"]


def conflist(name: str, socket: Path, version: str = "1.1.0", **more: Any) -> dict[str, Any]:
    """A network with Warren's plugin alone, with all capabilities."""
    capabilities = dict.fromkeys(("portMappings", "mac", "ips", "aliases", "dns", "bandwidth"), True)
    plugin = {"type": "warren", "socket": str(socket), "capabilities": capabilities, **more}
    return {"cniVersion": version, "name": name, "plugins": [plugin]}


class Runtime:
    """One host's runtime. Results of ADD are kept, as the specification wants it, for CHECK and DEL."""

    def __init__(self, plugins: Path) -> None:
        self.plugins = plugins
        self.results: dict[tuple[str, str, str], dict[str, Any]] = {}

    def execute(self, command: str, config: Mapping[str, Any], **environment: str) -> Any:
        """One plugin, once; what it answers. Raises `Failed`."""
        kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
        variables = {**kept, "CNI_COMMAND": command, "CNI_PATH": str(self.plugins), **environment}
        program = self.plugins / config["type"]
        done = subprocess.run(
            [program], input=json.dumps(config), env=variables, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
        assert done.stderr == ""
        answer = json.loads(done.stdout) if done.stdout.strip() else None
        if done.returncode:
            assert done.returncode == 1
            assert answer["cniVersion"] == config.get("cniVersion", answer["cniVersion"])
            raise Failed(answer)
        return answer

    def add(self, network: Mapping[str, Any], container: str, netns: str, ifname: str = "eth0", **more: Any) -> dict[str, Any]:
        """Attach; the last plugin's result. `capabilities` and `args` (CNI_ARGS) as a user would have said them."""
        result = None
        for plugin in network["plugins"]:
            injected = {"prevResult": result} if result is not None else {}
            result = self._call("ADD", network, plugin, container, netns, ifname, injected, **more)
        assert isinstance(result, dict)
        assert result["cniVersion"] == network["cniVersion"]
        self.results[network["name"], container, ifname] = result
        return result

    def check(self, network: Mapping[str, Any], container: str, netns: str, ifname: str = "eth0", **more: Any) -> None:
        """Check with the result of the ADD before."""
        injected = {"prevResult": self.results[network["name"], container, ifname]}
        for plugin in network["plugins"]:
            assert self._call("CHECK", network, plugin, container, netns, ifname, injected, **more) is None

    def delete(self, network: Mapping[str, Any], container: str, netns: str, ifname: str = "eth0", **more: Any) -> None:
        """Detach, the plugins in reverse order."""
        result = self.results.get((network["name"], container, ifname))
        injected = {"prevResult": result} if result is not None else {}
        for plugin in reversed(network["plugins"]):
            assert self._call("DEL", network, plugin, container, netns, ifname, injected, **more) is None
        self.results.pop((network["name"], container, ifname), None)

    def status(self, network: Mapping[str, Any]) -> None:
        """Whether the network's plugins are ready."""
        for plugin in network["plugins"]:
            assert self.execute("STATUS", self._config(network, plugin, {}, {})) is None

    def collect(self, network: Mapping[str, Any], valid: Sequence[tuple[str, str]]) -> None:
        """GC: remove all attachments but these (container, interface)."""
        listed = [{"containerID": container, "ifname": ifname} for container, ifname in valid]
        for plugin in network["plugins"]:
            config = self._config(network, plugin, {"cni.dev/valid-attachments": listed}, {})
            assert self.execute("GC", config) is None

    def _call(
        self, command: str, network: Mapping[str, Any], plugin: Mapping[str, Any], container: str, netns: str, ifname: str,
        injected: Mapping[str, Any], capabilities: Mapping[str, Any] | None = None, args: str = "",
    ) -> Any:  # fmt: skip
        config = self._config(network, plugin, injected, capabilities or {})
        return self.execute(command, config, CNI_CONTAINERID=container, CNI_NETNS=netns, CNI_IFNAME=ifname, CNI_ARGS=args)

    @staticmethod
    def _config(
        network: Mapping[str, Any], plugin: Mapping[str, Any], injected: Mapping[str, Any], capabilities: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The plugin's part of the list as it gets it. `capabilities` is not for plugins."""
        config = {k: v for k, v in plugin.items() if k != "capabilities"}
        chosen = {k: v for k, v in capabilities.items() if plugin.get("capabilities", {}).get(k)}
        config |= {"name": network["name"], "cniVersion": network["cniVersion"], **injected}
        return config | ({"runtimeConfig": chosen} if chosen else {})
