# Removes the control groups of a machine that has ended, in a mount namespace of its own.
bed=$1 group=$2
mount --make-rprivate /
mkdir -p "$bed/group"
while IFS=: read -r _ controllers _; do
    case $controllers in
    '') mount -t cgroup2 none "$bed/group" ;;
    name=*) mount -t cgroup -o "none,$controllers" none "$bed/group" ;;
    *) mount -t cgroup -o "$controllers" none "$bed/group" ;;
    esac
    if [ -d "$bed/group/$group" ]; then find "$bed/group/$group" -depth -type d -exec rmdir {} +; fi
    umount "$bed/group"
done </proc/self/cgroup
