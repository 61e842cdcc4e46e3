# `cargo xtask dev test` runs this in a new container: unpacks the sources from standard input, and runs the tests at $0, or all.
exec 2>&1
mkdir /tmp/src && cd /tmp/src || exit
# Not every base image of Python has tar.
python3 -c 'import sys, tarfile; tarfile.open(fileobj=sys.stdin.buffer, mode="r|").extractall(filter="data")' || exit
exec python3 -m pytest ${0:--n 2}
