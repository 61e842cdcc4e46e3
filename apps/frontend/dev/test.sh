# `cargo xtask dev test` runs this in a new container: unpacks the sources from standard input, and runs the tests at $0, or all.
exec 2>&1
mkdir /tmp/src && cd /tmp/src && tar -x && ln -s /app/node_modules /app/next-env.d.ts . || exit
# Without the tests of the built server: nothing is built here.
exec node node_modules/vitest/vitest.mjs run --configLoader=native --exclude 'tests/{built,server}.test.ts' $0
