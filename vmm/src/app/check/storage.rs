//! What a machine has of files: shares, volumes, and folders in memory.

use super::super::{
    Bytes, IMAGE_TAG, MAX_SHARES, MAX_TAG_SIZE, MAX_TMPFS, MAX_VOLUMES, Rate, STORE_TAG, Share,
    Tmpfs, Volume, VolumeSize,
};
use super::{Check, Place, quoted};

impl Check {
    pub(super) fn shares(&mut self, shares: &[Share]) {
        let place = Place::root().key("shares");
        self.expect(
            shares.len() <= MAX_SHARES,
            place.clone(),
            format_args!("at most {MAX_SHARES} shares"),
            shares.len(),
        );
        for (nth, share) in shares.iter().take(MAX_SHARES).enumerate() {
            let here = |key: &'static str| place.clone().index(nth).key(key);
            self.host_path(&share.source, here("source"));
            self.guest_path(&share.mount_point.to_string_lossy(), here("mountPoint"));
            if let Some(tag) = &share.tag {
                self.tag(tag, &here("tag"));
            }
        }
    }

    pub(super) fn volumes(&mut self, volumes: &[Volume]) {
        let place = Place::root().key("volumes");
        self.expect(
            volumes.len() <= MAX_VOLUMES,
            place.clone(),
            format_args!("at most {MAX_VOLUMES} volumes"),
            volumes.len(),
        );
        for (nth, volume) in volumes.iter().take(MAX_VOLUMES).enumerate() {
            self.volume(volume, &place.clone().index(nth));
        }
    }

    pub(super) fn tmpfs(&mut self, all: &[Tmpfs]) {
        let place = Place::root().key("tmpfs");
        let allowed = format_args!("at most {MAX_TMPFS} folders");
        self.expect(all.len() <= MAX_TMPFS, place.clone(), allowed, all.len());
        for (nth, tmpfs) in all.iter().take(MAX_TMPFS).enumerate() {
            let place = place.clone().index(nth).key("mountPoint");
            self.guest_path(&tmpfs.mount_point.to_string_lossy(), place);
        }
    }

    pub(super) fn volume(&mut self, volume: &Volume, place: &Place) {
        let here = |key: &'static str| place.clone().key(key);
        match (&volume.name, &volume.image) {
            (Some(name), None) => self.shared_name(name, here("name")),
            (None, Some(image)) => self.host_path(image, here("image")),
            (None, None) => self.complain(
                place.clone(),
                "needs a \"name\", or an \"image\", its file".into(),
            ),
            (Some(_), Some(_)) => self.complain(
                here("image"),
                "is of no use beside name: a volume has one or the other".into(),
            ),
        }
        if let Some(point) = &volume.mount_point {
            self.guest_path(&point.to_string_lossy(), here("mountPoint"));
        }
        let (least, most) = (
            VolumeSize::from_mib(VolumeSize::MIN_MIB),
            VolumeSize::from_mib(VolumeSize::MAX_MIB),
        );
        self.expect(
            (least..=most).contains(&volume.size),
            here("size"),
            format_args!("from {least} to {most}"),
            volume.size,
        );
        if let Some(rate) = &volume.rate_limit {
            self.rate(rate, &here("rateLimit"));
        }
    }

    pub(super) fn rate(&mut self, rate: &Rate, place: &Place) {
        let here = |key: &'static str| place.clone().key(key);
        let numbers = [
            ("bytesPerSecond", rate.bytes_per_second.map(Bytes::get)),
            ("opsPerSecond", rate.ops_per_second.map(u64::from)),
            ("burst", rate.burst.map(Bytes::get)),
        ];
        for (key, number) in numbers {
            self.expect(number != Some(0), here(key), "more than nothing", 0);
        }
    }

    fn tag(&mut self, tag: &str, place: &Place) {
        let is_good = (1..=MAX_TAG_SIZE).contains(&tag.len())
            && tag.bytes().all(|byte| byte.is_ascii_graphic());
        let allowed = format!("1 to {MAX_TAG_SIZE} printable ASCII characters");
        self.expect(is_good, place.clone(), allowed, quoted(tag));
        for (own, what) in [(STORE_TAG, "the store"), (IMAGE_TAG, "the image")] {
            if tag == own {
                let message = format!("{} is the tag of {what} itself", quoted(tag));
                self.complain(place.clone(), message);
            }
        }
    }
}
