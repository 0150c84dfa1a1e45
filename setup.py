"""Warren: an SDN controller for container networks over Open vSwitch."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOMS = ("acl", "agent", "controller", "intent", "mirror", "ovsdb", "pipeline", "specs", "tools", "underlay", "warren")
VERSION = re.search(r'__version__ = "(.+)"', Path(__file__).with_name("warren").joinpath("__init__.py").read_text())[1]

setup(
    name="warren",
    version=VERSION,
    description="An SDN controller for container networks over Open vSwitch",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    classifiers=[
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Programming Language :: Python :: 3.14",
        "Topic :: System :: Networking",
    ],
    packages=find_packages(include=[*ROOMS, *(f"{room}.*" for room in ROOMS)]),
    package_data={"agent.api": ["ui/*"], "agent.dhcp_client": ["udhcpc-hook"], "warren.client": ["py.typed"]},
    install_requires=[
        # Ryu's last state; it pins eventlet, which holds dnspython below 2.3, and this eventlet ends with Python 3.11
        # (docs/adr/0001-ryu.md). Later Pythons have os-ken, OpenStack's fork (controller/framework/).
        "csle-ryu-fork==4.37.0.dev3357; python_version < '3.12'",
        "eventlet==0.33.2; python_version < '3.12'",
        "dnspython==2.2.1; python_version < '3.12'",
        "tinyrpc==1.0.4; python_version < '3.12'",
        "os-ken==4.2.2; python_version >= '3.12'",
        "eventlet==0.41.3; python_version >= '3.12'",
        "ovs==4.0.0",
        "pyroute2==0.9.7",
        # etcd3's generated code wants an old protobuf (docs/adr/0080-unmaintained-parts.md)
        "etcd3==0.12.0",
        "protobuf==3.20.3",
        "grpcio==1.85.1",
        "pyyaml==6.0.3",
        "prometheus-client==0.26.0",
        "networkx==3.6.1",
        "graphviz==0.21",
        "pydantic==2.14.3",
        "fastapi==0.165.0",
        "uvicorn==0.54.0",
        "h11==0.16.0",
        "typer==0.29.2",
        "rich==15.0.0",
        "httpx==0.28.1",
        "httpcore==1.0.9",
        "vici==6.0.3",
    ],
    extras_require={
        "dev": [
            "pytest==9.2.0",
            "pytest-timeout==2.4.0",
            "hypothesis==6.170.15",
            "schemathesis==4.32.5",
            "ruff==0.17.5",
            "mypy==2.4.1",
            "radon==6.0.1",
            "scapy==2.8.0",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": [
            # Ryu's own command where Ryu is installed; os-ken has none
            "ryu-manager=controller.framework.manager:main",
            "warren=tools.cli.main:main",
            "warren-agent=agent.main:main",
            "warren-cni=tools.cni.plugin:main",
            "warren-netavark=tools.cni.plugin:netavark",
            "warren-underlay=underlay.main:main",
            "cnctl=underlay.cnctl:main",
            "graph_overlay=tools.graph.main:main",
        ],
    },
)
