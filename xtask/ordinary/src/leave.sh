# Removes the control groups of a stopped machine, in a separate mount namespace.
folder=$1 group=$2
mount --make-rprivate /
mkdir -p "$folder/group"
while IFS=: read -r _ controllers _; do
    case $controllers in
    '') mount -t cgroup2 none "$folder/group" ;;
    name=*) mount -t cgroup -o "none,$controllers" none "$folder/group" ;;
    *) mount -t cgroup -o "$controllers" none "$folder/group" ;;
    esac
    if [ -d "$folder/group/$group" ]; then find "$folder/group/$group" -depth -type d -exec rmdir {} +; fi
    umount "$folder/group"
done </proc/self/cgroup
