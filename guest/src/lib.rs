//! What the two sides of a guest share: the protocol that `mvm` and the program inside its machine speak.

pub mod protocol;
