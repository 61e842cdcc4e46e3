# The machine's first process, in separate namespaces (mounts, network, processes, host name). When it ends, the kernel
# kills all other processes of the machine.
tree=$1 folder=$2 group=$3 addresses=$4
shared=$folder/shared
exec >>"$shared/machine.log" 2>&1
mount --make-rprivate /

# Creates a control group in every hierarchy, which the machine sees as the root. Otherwise, kubelets of other clusters on
# this kernel would remove each other's groups as leftovers.
mkdir "$folder/group"
while IFS=: read -r _ controllers _; do
    case $controllers in
    '') mount -t cgroup2 none "$folder/group" ;;
    name=*) mount -t cgroup -o "none,$controllers" none "$folder/group" ;;
    *) mount -t cgroup -o "$controllers" none "$folder/group" ;;
    esac
    mkdir -p "$folder/group/$group"
    if [ "$controllers" = cpuset ]; then
        for file in cpuset.cpus cpuset.mems; do cat "$folder/group/$file" >"$folder/group/$group/$file"; done
    fi
    echo 0 >"$folder/group/$group/cgroup.procs"
    umount "$folder/group"
done </proc/self/cgroup

exec unshare --cgroup sh -euc "$5" machine "$tree" "$folder" "$addresses"
