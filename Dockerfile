# One image for everything that runs on a host: etcd, Open vSwitch, the controller, the agent, the CLI.
#   docker build --network host -t warren .
# BASE may be pinned: --build-arg BASE=debian:bookworm-slim@sha256:... (`docker buildx imagetools inspect debian:bookworm-slim` prints the digest).
ARG BASE=debian:bookworm-slim

FROM ${BASE} AS build
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        python3 python3-venv python3-dev build-essential ca-certificates \
    && rm -rf /var/lib/apt/lists/*
# the libraries change seldom: they are a layer of their own, made of setup.py and what it reads
COPY setup.py README.md /usr/src/warren/
COPY warren/__init__.py /usr/src/warren/warren/
RUN python3 -m venv /opt/warren && /opt/warren/bin/pip install --no-cache-dir --disable-pip-version-check /usr/src/warren
COPY . /usr/src/warren
RUN /opt/warren/bin/pip install --no-cache-dir --disable-pip-version-check --no-deps --force-reinstall /usr/src/warren \
    && /opt/warren/bin/pip uninstall -y --quiet pip \
    && find /opt/warren -name '*.so' -exec strip --strip-unneeded {} + \
    && find /opt/warren -type d \( -name tests -o -name __pycache__ \) -prune -exec rm -rf {} +

FROM ${BASE}
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Warren" \
      org.opencontainers.image.description="An SDN controller for container networks over Open vSwitch" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
RUN apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends \
        python3 ca-certificates openvswitch-switch etcd-server nftables iproute2 ethtool busybox graphviz tcpdump wireguard-tools wireguard-go \
        charon-systemd libcharon-extra-plugins libstrongswan-standard-plugins \
    && rm -rf /var/lib/apt/lists/* /usr/share/doc /usr/share/man /usr/share/locale /usr/share/info /var/cache/debconf/*-old /var/log/*.log \
    && find /usr/lib/python3* -type d -name __pycache__ -prune -exec rm -rf {} +
COPY --from=build /opt/warren /opt/warren
COPY tools/cni/plugin.py /opt/cni/bin/warren
COPY etc/compose/start-ovs /usr/local/bin/start-ovs
RUN chmod 755 /opt/cni/bin/warren && mkdir -p /var/lib/etcd && chown etcd: /var/lib/etcd && chmod 700 /var/lib/etcd
# compiled modules are no part of the image: each container writes them when it first loads them
ENV PATH=/opt/warren/bin:$PATH PYTHONPYCACHEPREFIX=/var/cache/python
CMD ["warren", "--help"]
