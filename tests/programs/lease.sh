#!/bin/sh
# what busybox's udhcpc calls: the address, the MTU and the default route of the lease
case $1 in
    deconfig) ip -4 addr flush dev "$interface" ;;
    bound | renew)
        ip addr replace "$ip/$mask" dev "$interface"
        [ -z "$mtu" ] || ip link set "$interface" mtu "$mtu"
        [ -z "$router" ] || ip route replace default via "$router" ;;
esac
