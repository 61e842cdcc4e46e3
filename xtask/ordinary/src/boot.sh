# Continues as the machine's first process. Its root is an overlay on the Debian tree; the upper layer is temporary.
tree=$1 folder=$2 addresses=$3
shared=$folder/shared
mount -t overlay overlay -o "lowerdir=$tree,upperdir=$folder/upper,workdir=$folder/work" "$folder/root"
cd "$folder/root"
mkdir -p .old usr/lib/modules var/lib/docker shared
mount -t proc proc proc
mount -t sysfs sysfs sys
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then
    mount -t cgroup2 cgroup sys/fs/cgroup
    # Only a group without processes can delegate its controllers.
    mkdir sys/fs/cgroup/machine
    echo 0 >sys/fs/cgroup/machine/cgroup.procs
    sed 's/^/+/; s/ / +/g' sys/fs/cgroup/cgroup.controllers >sys/fs/cgroup/cgroup.subtree_control
else
    mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
    while IFS=: read -r _ controllers _; do
        case $controllers in
        '') name=unified type=cgroup2 options=rw ;;
        name=*) name=${controllers#name=} type=cgroup options=none,$controllers ;;
        *) name=$controllers type=cgroup options=$controllers ;;
        esac
        mkdir "sys/fs/cgroup/$name"
        mount -t "$type" -o "$options" cgroup "sys/fs/cgroup/$name"
    done </proc/self/cgroup
fi
mount --rbind /dev dev
if [ -d /lib/modules ]; then mount --bind /lib/modules usr/lib/modules; fi
mount -t tmpfs -o mode=755 tmpfs run
# An engine cannot store its layers on an overlay.
mount --bind "$folder/docker" var/lib/docker
mount --bind "$shared" shared
pivot_root . .old
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
umount -l /.old
mount --make-rshared /
mkdir -p /run/lock
hostname ordinary
ip link set lo up
for address in $addresses; do ip addr add "$address/32" dev lo; done
# The kernel has no nf_tables.
if ! iptables -w -n -L >/dev/null 2>&1 && iptables-legacy -w -n -L >/dev/null 2>&1; then
    ln -sf /usr/sbin/iptables-legacy /etc/alternatives/iptables
    ln -sf /usr/sbin/ip6tables-legacy /etc/alternatives/ip6tables
fi
limit=$(ulimit -Hn)
if [ "$limit" = unlimited ] || [ "$limit" -gt 1048576 ]; then limit=1048576; fi
ulimit -n "$limit"
useradd --create-home --shell /bin/bash --groups docker user
echo '127.0.0.1 localhost ordinary' >/etc/hosts
cp /shared/resolv.conf /etc/resolv.conf
cp /shared/offer/bundle.pem /etc/ssl/certs/ca-certificates.crt
mkdir -p /etc/docker
ln -s /shared/daemon.json /etc/docker/daemon.json
run_clean() { env -i PATH="$PATH" "$@"; }
run_clean docker-registry serve /shared/registry.yml >/shared/registry.log 2>&1 &
run_clean /shared/xtask-ordinary internet /shared >/shared/internet.log 2>&1 &
# Only the proxy resolves the official hosts.
if [ -f /shared/tinyproxy.conf ]; then
    proxy='mount --make-rprivate / && mount --bind /shared/proxy.hosts /etc/hosts && exec tinyproxy -d -c /shared/tinyproxy.conf'
    run_clean unshare --mount sh -c "$proxy" >/shared/proxy.log 2>&1 &
fi
# The suite ends it to change its settings.
run_clean sh -c 'while :; do dockerd; sleep 1; done' >/shared/dockerd.log 2>&1 &
echo ready >/shared/ready
# As PID 1, it must reap orphans.
wait
