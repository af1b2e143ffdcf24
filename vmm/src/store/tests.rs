//! File systems as another program sees them, and what is kept of them.
