# One image for everything that runs on a host: etcd, Open vSwitch, the controller, the agent, the CLI.
#   docker build --network host -t warren .
FROM debian:bookworm-slim
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        python3 python3-venv python3-dev build-essential ca-certificates \
        openvswitch-switch etcd-server etcd-client nftables iproute2 ethtool busybox graphviz tcpdump \
    && rm -rf /var/lib/apt/lists/*
COPY . /usr/src/warren
RUN python3 -m venv /opt/warren \
    && /opt/warren/bin/pip install --no-cache-dir --disable-pip-version-check /usr/src/warren \
    && install -D -m 755 /usr/src/warren/tools/cni/plugin.py /opt/cni/bin/warren \
    && rm -rf /usr/src/warren
ENV PATH=/opt/warren/bin:$PATH
COPY etc/compose/start-ovs /usr/local/bin/start-ovs
CMD ["warren", "--help"]
