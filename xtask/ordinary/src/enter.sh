# The machine's first process, in namespaces of its own (mounts, network, processes, host name). When it ends, the kernel
# ends every other process in it.
tree=$1 bed=$2 group=$3 addresses=$4
shared=$bed/shared
exec >>"$shared/machine.log" 2>&1
mount --make-rprivate /

# A control group of its own in every hierarchy, which the machine sees as the root. The kubelets of clusters on the same
# kernel would otherwise take each other's groups for leftovers.
mkdir "$bed/group"
while IFS=: read -r _ controllers _; do
    case $controllers in
    '') mount -t cgroup2 none "$bed/group" ;;
    name=*) mount -t cgroup -o "none,$controllers" none "$bed/group" ;;
    *) mount -t cgroup -o "$controllers" none "$bed/group" ;;
    esac
    mkdir -p "$bed/group/$group"
    if [ "$controllers" = cpuset ]; then
        for file in cpuset.cpus cpuset.mems; do cat "$bed/group/$file" >"$bed/group/$group/$file"; done
    fi
    echo 0 >"$bed/group/$group/cgroup.procs"
    umount "$bed/group"
done </proc/self/cgroup

exec unshare --cgroup sh -euc "$5" machine "$tree" "$bed" "$addresses"
