//! The xtask under test: the program that users run, built with scaled time limits.

fn main() {
    xtask::program::main(xtask::program::run)
}
