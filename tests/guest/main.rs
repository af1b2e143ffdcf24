//! The guest tests: each a script in a real machine.
