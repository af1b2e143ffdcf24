//! virtio-fs (virtio 1.2 §5.11).
