#![no_main]
#![expect(unsafe_code, reason = "a symbol that the C library calls")]
//! `mvm-init`, the program that the kernel of a guest starts first. What it does is `init.rs`.
//!
//! The one thing to know: Rust's own entry opens `/dev/null` in place of standard streams that are
//! closed, and aborts if there is none. In an initramfs without a console both are so, so the C
//! library's entry is taken.

use std::ffi::{CStr, c_char, c_int};

use guest::agent::SERVE;

/// The C library's `main`.
// SAFETY: no other symbol of this name is linked, and the type is that of C's main.
#[unsafe(no_mangle)]
extern "C" fn main(argc: c_int, argv: *const *const c_char) -> c_int {
    let arguments = (0..argc.max(0).cast_unsigned() as usize).map(|index| {
        // SAFETY: the array has `argc` entries.
        let argument = unsafe { *argv.add(index) };
        // SAFETY: each is a string that ends in NUL and lives as long as the process.
        unsafe { CStr::from_ptr(argument) }
    });
    let role = arguments.skip(1).map(CStr::to_bytes).next();
    match role {
        Some(role) if role == SERVE.as_bytes() => guest::visit::run(),
        // The kernel passes words on that it does not know.
        _ => guest::init::run(),
    }
}
