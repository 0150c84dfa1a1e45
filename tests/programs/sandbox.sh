#!/bin/bash
# sandbox.sh CAPABILITIES WRITABLE PROGRAM...: run a program as systemd runs a unit with CapabilityBoundingSet=, ProtectSystem=strict,
# ReadWritePaths= (one path) and NoNewPrivileges=yes. CAPABILITIES are setpriv's, such as "-all,+net_admin".
exec unshare --mount --propagation slave bash -c '
    set -e
    capabilities=$1 writable=$2
    shift 2
    mount --rbind "$writable" "$writable"
    mount -o remount,bind,ro /
    exec setpriv --no-new-privs --bounding-set "$capabilities" --inh-caps -all "$@"' sandbox "$@"
