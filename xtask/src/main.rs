//! The program behind `cargo xtask`; its code is in the library.

fn main() {
    xtask::program::main(xtask::program::run)
}
