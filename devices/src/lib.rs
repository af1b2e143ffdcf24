//! What a guest of mvm sees of the host: virtio devices over mmio, a serial port, power control.
//!
//! Everything here builds and is tested without `/dev/kvm`, knows no JSON file, and is written
//! against a hostile guest: each guest value is read once, checked, then used; nothing a guest
//! writes may panic, spin or grow this process, and what it makes this process say has a limit
//! (`log`).
#![deny(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::unwrap_used
)]
#![cfg_attr(
    test,
    expect(
        clippy::arithmetic_side_effects,
        clippy::indexing_slicing,
        clippy::unwrap_used,
        reason = "a test that panics has failed, which is what it is for"
    )
)]

mod log;
pub mod power;
pub mod serial;
pub mod virtio;

/// Guest memory as every device holds it.
pub type Memory = std::sync::Arc<vm_memory::GuestMemoryMmap>;
