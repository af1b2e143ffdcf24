//! CRC-32C (Castagnoli), of the superblock's block alone, without the inversion at its end.

/// The polynomial 0x1edc6f41, its lowest bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// As Linux' `crc32c(~0, bytes)`. It is asked for three thousand bytes, so bit by bit will do.
pub(super) fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(u32::MAX, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| {
            let carry = if crc & 1 == 1 { POLYNOMIAL } else { 0 };
            crc >> 1 ^ carry
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_one_of_rfc_3720() {
        // Its section B.4, where the result is inverted.
        assert_eq!(!crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(!crc32c(b"123456789"), 0xe306_9283);
    }
}
