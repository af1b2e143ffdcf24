//! Trees of all shapes.
