//! The file server from the outside: a client that speaks FUSE as Linux does, or as it never would.

mod changes;
mod changing;
mod client;
mod full;
mod harmless;
mod hostile;
mod listing;
mod mapping;
mod oracle;
mod read_only;
mod requests;
mod sessions;
mod steady;
mod store;
mod tables;
mod threads;
mod walk;
mod wicked;
mod writable;
