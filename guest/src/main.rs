#![no_main]
#![expect(unsafe_code, reason = "a symbol that the C library calls")]
//! `mvm-init`, the program that the kernel of a guest starts first. What it does is `init.rs`.
//!
//! The one thing to know: Rust's own entry opens `/dev/null` in place of standard streams that are
//! closed, and aborts if there is none. In an initramfs without a console both are so, so the C
//! library's entry is taken.

use std::ffi::{c_char, c_int};

use rustix::process::getpid;

/// The C library's `main`.
// SAFETY: no other symbol of this name is linked, and the type is that of C's main.
#[unsafe(no_mangle)]
extern "C" fn main(_argc: c_int, _argv: *const *const c_char) -> c_int {
    // Process 1 is init whatever it is told: the kernel passes words on that it does not know.
    let mut arguments = std::env::args_os().skip(1);
    match arguments.next().filter(|_| !getpid().is_init()) {
        Some(role) => guest::roles::run(&role, &arguments.collect::<Vec<_>>()),
        None => guest::init::run(),
    }
}
