# networkd.sh NETWORKD: run systemd-networkd with files of its own, in a mount namespace of its own. With /sys to read only it does not wait for
# udev (systemd's container interface).
mount -t tmpfs tmpfs /run && mkdir -p /run/systemd/network && mount -t sysfs -o ro sysfs /sys || exit 1
cat >/run/systemd/network/10-eth0.network <<END
[Match]
Name=eth0
[Network]
DHCP=yes
IPv6AcceptRA=yes
[DHCPv4]
UseMTU=yes
UseDomains=yes
UseHostname=no
END
exec "$1"
