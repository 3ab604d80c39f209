//! The release binary is linked at a fixed address. A position-independent one carries a table of
//! 1.7 MB that the loader reads at every start, and 1.1 MB of pointers that each process then has
//! to itself: with it `run` is resident with 16.4 MB, without it with 14.6 MB. Stack, heap and
//! libraries stay at random addresses.
//!
//! What a running agent goes through stands side by side in it (`deploy/often.ld`): the kernel maps
//! sixteen pages around each that is needed, and scattered over all of the code that was 8.5 MB. The
//! list is a linker script that adds to the usual one, as GNU ld and lld take it.
//!
//! It is stripped here: Cargo forgets `strip` for a package with a profile of its own.

fn main() {
    for file in ["build.rs", "deploy/often.ld"] {
        println!("cargo:rerun-if-changed={file}");
    }
    println!("cargo:rerun-if-env-changed=GREENLIGHT_SYMBOLS");
    if std::env::var("PROFILE").is_ok_and(|profile| profile == "release") {
        println!("cargo:rustc-link-arg-bins=-no-pie");
        // `deploy/often` asks for the names, which valgrind knows of `.text` alone.
        if std::env::var_os("GREENLIGHT_SYMBOLS").is_none() {
            let package = std::env::var("CARGO_MANIFEST_DIR").unwrap_or_default();
            println!("cargo:rustc-link-arg-bins=-Wl,-T,{package}/deploy/often.ld");
            println!("cargo:rustc-link-arg-bins=-Wl,--strip-all");
        }
    }
}
