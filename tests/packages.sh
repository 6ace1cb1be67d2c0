#!/bin/sh
# Installs the Debian packages that the tests for root use, those whose command is missing. Quiet where nothing is.
set -eu
[ "$(id -u)" = 0 ] || exit 0

missing=""
while read -r package file; do
    found=""
    for place in "$file" "/usr/sbin/$file" "/usr/bin/$file" "/sbin/$file" "/bin/$file"; do
        [ ! -e "$place" ] || found=yes
    done
    [ -n "$found" ] || missing="$missing $package"
done <<LIST
containerd containerd
runc runc
containernetworking-plugins /usr/lib/cni/ptp
etcd-server etcd
docker-registry docker-registry
iproute2 ip
nftables nft
busybox-static busybox
strace strace
curl curl
LIST

[ -n "$missing" ] || exit 0
if ! command -v apt-get > /dev/null; then
    echo "no apt-get here; tests that need one of these are skipped:$missing"
    exit 0
fi
echo "installing for the tests:$missing"
export DEBIAN_FRONTEND=noninteractive
apt-get update -qq
# policy-rc.d: services are not started; the tests run their own
policy=/usr/sbin/policy-rc.d
made=""
if [ ! -e $policy ]; then
    printf '#!/bin/sh\nexit 101\n' > $policy
    chmod +x $policy
    made=yes
fi
log=$(mktemp)
status=0
# shellcheck disable=SC2086
apt-get install -y -qq --no-install-recommends $missing > "$log" 2>&1 || status=$?
[ -z "$made" ] || rm -f $policy
[ "$status" = 0 ] || tail -5 "$log"
rm -f "$log"
exit "$status"
