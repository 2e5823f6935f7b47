#!/bin/busybox sh
# The guest's first program: mounts what a device has, starts the agent, and gives the host a shell on a port that it alone reaches.
/bin/busybox mkdir -p /proc /sys /dev /tmp /run /config /persist /boot/efi /sbin /usr/bin /root
/bin/busybox --install -s /bin
export PATH=/sbin:/bin:/usr/bin HOME=/root
ln -s /bin/busybox /sbin/reboot
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mount -t securityfs sec /sys/kernel/security
mount -t tmpfs run /run
mount -t tmpfs tmp /tmp
while read -r module; do insmod "/lib/modules/$module"; done </lib/modules/order
ip link set lo up
ip addr add 10.0.2.15/24 dev eth0
ip link set eth0 up
ip route add default via 10.0.2.2
mount -t vfat /dev/vda1 /boot/efi
mount -t ext4 -o ro /dev/vda2 /config
mount -t ext4 /dev/vda3 /persist
nc -ll -p 23 -e sh &
until netstat -ltn | grep -q ':23 '; do sleep 0.1; done
echo "guest: up after $(cut -d' ' -f1 /proc/uptime) s"
while :; do
  node /opt/eve/bin/eve.js run --board real --measure-config --platform /etc/eve/platform
  echo "guest: the agent ended with $?"
  sleep 5
done
