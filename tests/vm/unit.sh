# The systemd unit under a real systemd: what it starts is ready, answers, reloads, is watched, stops in
# order and goes on where it was. This is the first process; it leaves its place to systemd, which starts
# `prove` below.
set -e
word() { sed -n "s/.*$1=\([^ ]*\).*/\1/p" /proc/cmdline; }
here=$(dirname "$0")
install -m 755 "$(word greenlight)" /usr/bin/greenlight
install -D -m 644 "$here/../../deploy/greenlight.service" /etc/systemd/system/greenlight.service
# The root is a view of this machine's, which may have an agent of its own.
rm -rf /etc/greenlight /var/lib/greenlight /var/lib/private/greenlight && mkdir /etc/greenlight
{
    echo 'include: [ "pack:linux-node" ]'
    echo 'vars:'
    sed 's/^\([^=]*\)=\(.*\)/  \1: \2/' "$(word vars)"
} >/etc/greenlight/plan.yaml
cat >/etc/systemd/system/prove.service <<UNIT
[Unit]
DefaultDependencies=no
[Service]
Type=oneshot
ExecStart=/bin/bash $here/unit/prove
StandardOutput=file:/dev/ttyS0
StandardError=inherit
UNIT
# What else this root would start has no part in it.
find /etc/systemd/system -mindepth 2 -path '*.wants/*' -delete
for unit in systemd-udevd systemd-udev-trigger systemd-hwdb-update systemd-timesyncd systemd-tmpfiles-setup ldconfig; do
    ln -sf /dev/null "/etc/systemd/system/$unit.service"
done
exec /lib/systemd/systemd --unit=prove.service --show-status=false --log-target=kmsg
