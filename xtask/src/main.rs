//! `cargo xtask`: see the library.

fn main() {
    xtask::program::main(xtask::program::run)
}
