//! What can be said of a checkpoint without the program that it is of: `millstream checkpoint inspect DIR`.

fn main() {
    std::process::exit(millstream::streaming::commands::run("millstream", std::env::args().skip(1), None));
}
